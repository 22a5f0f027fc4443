//! Headers that belong to one connection and must not cross to the next (spec/03 3.1, spec/A).

use http::HeaderMap;
use http::header::{
    CONNECTION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What is always removed; `Te` has a rule of its own, and `Connection` goes last.
static HOP_BY_HOP: [&HeaderName; 7] = [
    &PROXY_CONNECTION,
    &KEEP_ALIVE,
    &PROXY_AUTHENTICATE,
    &PROXY_AUTHORIZATION,
    &TRAILER,
    &TRANSFER_ENCODING,
    &UPGRADE,
];

/// Removes the hop-by-hop headers, and those that `Connection` names. `Te` stays when it says
/// exactly `trailers`. Allocates nothing unless `Connection` names a header that is there.
pub fn strip(headers: &mut HeaderMap) {
    if headers.is_empty() {
        return;
    }
    if headers.contains_key(CONNECTION) {
        strip_named(headers);
        headers.remove(CONNECTION);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    let mut te = headers.get_all(TE).iter();
    if let Some(first) = te.next()
        && (first != "trailers" || te.next().is_some())
    {
        headers.remove(TE);
    }
}

/// Removes what the `Connection` headers name. What keeps a message in its frame is no option of a
/// connection: naming it must not take it away.
fn strip_named(headers: &mut HeaderMap) {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive") {
                continue;
            }
            // `trailers` in `Te` needs `Connection: te`; the rule for `Te` decides.
            if let Ok(name) = HeaderName::from_bytes(token)
                && name != TE
                && headers.contains_key(&name)
            {
                named.push(name);
            }
        }
    }
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a header name");
                (name, value.parse::<HeaderValue>().expect("a header value"))
            })
            .collect()
    }

    #[test]
    fn nothing_of_the_hop_is_left() {
        let mut headers = map(&[
            ("connection", "close, X-Secret , x-absent"),
            ("connection", "x-other"),
            ("proxy-connection", "a"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "a"),
            ("proxy-authorization", "a"),
            ("te", "gzip"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", ""),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-other", "2"),
            ("x-kept", "1"),
            ("content-type", "text/plain"),
        ]);
        strip(&mut headers);
        assert_eq!(
            headers,
            map(&[("x-kept", "1"), ("content-type", "text/plain")])
        );
    }

    #[test]
    fn te_stays_when_it_asks_for_trailers_only() {
        for (fields, stays) in [
            (&[("te", "trailers")][..], true),
            (&[("te", "trailers"), ("connection", "te")], true),
            (&[("te", "gzip, trailers")], false),
            (&[("te", "trailers"), ("te", "gzip")], false),
            (&[("te", "")], false),
        ] {
            let mut headers = map(fields);
            strip(&mut headers);
            assert_eq!(headers.contains_key(TE), stays, "{fields:?}");
        }
    }

    const NAMES: [&str; 12] = [
        "connection",
        "proxy-connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-a",
        "x-b",
        "x-c",
    ];

    proptest! {
        #[test]
        fn what_is_named_goes_and_what_is_not_stays(
            fields in vec((0usize..NAMES.len(), "[ ,;=]{0,2}(x-a|X-B|te|trailers|upgrade|close)?[ ,\t]{0,2}(x-c)?"), 0..12)
        ) {
            let before: HeaderMap = fields
                .iter()
                .filter_map(|(name, value)| {
                    Some((HeaderName::from_static(NAMES[*name]), HeaderValue::from_str(value).ok()?))
                })
                .collect();
            let named: Vec<String> = before
                .get_all(CONNECTION)
                .iter()
                .flat_map(|value| value.to_str().expect("ascii").split(','))
                .map(|token| token.trim().to_ascii_lowercase())
                .collect();
            let mut after = before.clone();
            strip(&mut after);
            for name in before.keys() {
                let hop = NAMES[..9].contains(&name.as_str()) && name != TE;
                let gone = hop || (name != TE && named.iter().any(|token| token == name.as_str()));
                if name != TE {
                    prop_assert_eq!(after.contains_key(name), !gone, "{}", name);
                }
                if after.contains_key(name) {
                    let (left, right): (Vec<_>, Vec<_>) =
                        (after.get_all(name).iter().collect(), before.get_all(name).iter().collect());
                    prop_assert_eq!(left, right);
                }
            }
            let once = after.clone();
            strip(&mut after);
            prop_assert_eq!(once, after);
        }
    }
}
