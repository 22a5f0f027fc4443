//! The honest answer: JSON about the call, with status and headers as asked for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::knobs::Knobs;
use crate::request::Head;

/// The headers that the call should have had and has not.
pub(crate) fn missing_headers(knobs: &Knobs, head: &Head) -> Vec<String> {
    let has = |name: &str, value: &str| {
        let same =
            |(known, found): &(String, String)| known.eq_ignore_ascii_case(name) && found == value;
        head.headers.iter().any(same)
    };
    let expected = knobs
        .expect_headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let missing = expected.filter(|(name, value)| !has(name, value));
    missing
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

/// The whole answer, as it goes over the socket.
pub(crate) fn render(
    knobs: &Knobs,
    head: &Head,
    config: &BTreeMap<String, String>,
    data: &BTreeMap<String, String>,
) -> Vec<u8> {
    let is_trigger = head.get("Fn-Intent") == Some("httprequest");
    let body = body(knobs, head, config, data);
    let status = knobs.wire_status.unwrap_or(200);
    let mut text = format!(
        "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n",
        body.len()
    );
    text.push_str("Fn-Fdk-Version: test-function/1\r\n");
    if !knobs.no_content_type {
        let kinds = [&knobs.jason_content_type, &knobs.response_content_type];
        let kind = kinds.into_iter().find(|kind| !kind.is_empty());
        let kind = kind.map_or("application/json", String::as_str);
        text.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    if knobs.response_code != 0 {
        text.push_str(&format!("Fn-Http-Status: {}\r\n", knobs.response_code));
    }
    for (name, values) in &knobs.return_headers {
        let prefix = if is_trigger { "Fn-Http-H-" } else { "" };
        for value in values {
            text.push_str(&format!("{prefix}{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    [text.into_bytes(), body].concat()
}

fn body(
    knobs: &Knobs,
    head: &Head,
    config: &BTreeMap<String, String>,
    data: &BTreeMap<String, String>,
) -> Vec<u8> {
    if knobs.is_empty_body {
        return Vec::new();
    }
    if knobs.body_size > 0 {
        return vec![b'x'; knobs.body_size];
    }
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &head.headers {
        headers.entry(name).or_default().push(value);
    }
    let trailer = vec![Value::from(knobs.echo_content.as_str()); knobs.trailer_repeat];
    let answer = json!({
        "request": knobs.given,
        "header": headers,
        "config": config,
        "data": data,
        "trailer": trailer,
    });
    format!("{answer}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> Head {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Head {
            headers: headers.iter().map(own).collect(),
        }
    }

    fn rendered(knobs: &str, headers: &[(&str, &str)]) -> (String, String) {
        let knobs = Knobs::from_body(knobs.as_bytes()).unwrap();
        let config = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let answer = render(&knobs, &head(headers), &config, &BTreeMap::new());
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn the_answer_has_the_originals_shape() {
        let knobs = r#"{"echoContent": "e", "trailerRepeat": 2}"#;
        let (head, body) = rendered(knobs, &[("Fn-Call-Id", "c"), ("X", "1"), ("X", "2")]);
        assert!(head.starts_with("HTTP/1.1 200 Status\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(head.contains("Content-Type: application/json"));
        let body: Value = serde_json::from_str(&body).unwrap();
        let expected = json!({
            "request": {"echoContent": "e", "trailerRepeat": 2},
            "header": {"Fn-Call-Id": ["c"], "X": ["1", "2"]},
            "config": {"A": "1"},
            "data": {},
            "trailer": ["e", "e"],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn status_and_headers_are_as_asked_for() {
        let knobs = r#"{"responseCode": 202, "returnHeaders": {"X-A": ["1", "2"]}, "wireStatus": 504,
            "responseContentType": "foo/bar", "jasonContentType": "j/k", "isEmptyBody": true}"#;
        let (head, body) = rendered(knobs, &[]);
        assert!(head.starts_with("HTTP/1.1 504 "));
        assert!(head.ends_with("Content-Type: j/k\r\nFn-Http-Status: 202\r\nX-A: 1\r\nX-A: 2"));
        assert_eq!(body, "");
        let (head, _) = rendered(knobs, &[("Fn-Intent", "httprequest")]);
        assert!(head.ends_with("Fn-Http-H-X-A: 1\r\nFn-Http-H-X-A: 2"));
        let (head, body) = rendered(r#"{"noContentType": true, "bodySize": 5}"#, &[]);
        assert_eq!(
            (head.contains("Content-Type"), body.as_str()),
            (false, "xxxxx")
        );
    }

    #[test]
    fn headers_that_should_be_there() {
        let knobs =
            Knobs::from_body(br#"{"expectHeaders": {"x-a": ["1", "2"], "B": ["3"]}}"#).unwrap();
        let missing = missing_headers(&knobs, &head(&[("X-A", "1"), ("B", "4")]));
        assert_eq!(missing, ["B: 3", "x-a: 2"]);
    }
}
