//! The id by which a client knows its request (spec/01 1.2).

use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest id that is taken from a client.
const MAX_LENGTH: usize = 128;

/// Takes the ids of requests from the header that `FN_RID_HEADER` names.
#[derive(Debug, Clone)]
pub struct RequestIds {
    header: HeaderName,
}

impl RequestIds {
    /// None when `header` is empty: then requests have no ids.
    ///
    /// # Errors
    /// `header` cannot be the name of a header.
    pub fn new(header: &str) -> Result<Option<Self>, String> {
        if header.is_empty() {
            return Ok(None);
        }
        match header.parse() {
            Ok(header) => Ok(Some(Self { header })),
            Err(_) => Err(format!(
                "error invalid FN_RID_HEADER={header}: not the name of a header"
            )),
        }
    }

    /// The header that carries the id.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The id that the request brought, if it is visible ASCII of at most 128 bytes. What else a
    /// client sends could forge log lines.
    pub fn sent<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let id = headers.get(&self.header)?.as_bytes();
        let fit = !id.is_empty() && id.len() <= MAX_LENGTH && id.iter().all(u8::is_ascii_graphic);
        std::str::from_utf8(id).ok().filter(|_| fit)
    }

    /// The request's id; where it brought none that is fit, the one that `make` makes, which is then
    /// in its headers too.
    pub fn assign(
        &self,
        headers: &mut HeaderMap,
        make: impl FnOnce() -> std::sync::Arc<str>,
    ) -> std::sync::Arc<str> {
        if let Some(id) = self.sent(headers) {
            return id.into();
        }
        let id = make();
        match HeaderValue::from_str(&id) {
            Ok(value) => drop(headers.insert(self.header.clone(), value)),
            Err(_) => drop(headers.remove(&self.header)),
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(value: &[u8]) -> (String, HeaderMap) {
        let ids = RequestIds::new("X-Request-Id")
            .expect("a name")
            .expect("a header");
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-request-id",
            HeaderValue::from_bytes(value).expect("a value"),
        );
        let id = ids.assign(&mut headers, || "made".into());
        (id.to_string(), headers)
    }

    #[test]
    fn a_fit_id_is_kept_and_any_other_is_replaced() {
        for id in ["01ABC", "a", &"x".repeat(128)] {
            let (given, headers) = assigned(id.as_bytes());
            assert_eq!(given, id);
            assert_eq!(headers["x-request-id"], id);
        }
        for id in [
            &b""[..],
            b"a b",
            b"a\tb",
            "\u{e4}".as_bytes(),
            "x".repeat(129).as_bytes(),
        ] {
            let (given, headers) = assigned(id);
            assert_eq!(given, "made");
            assert_eq!(headers["x-request-id"], "made");
        }
    }

    #[test]
    fn a_header_must_have_a_name() {
        assert!(RequestIds::new("").is_ok_and(|ids| ids.is_none()));
        let error = RequestIds::new("no name").expect_err("a space");
        assert!(
            error.starts_with("error invalid FN_RID_HEADER=no name"),
            "{error}"
        );
    }
}
