//! The headers of a call as they are kept: in order, with values of any bytes.

use serde::{Deserialize, Serialize};

/// Pairs of name and value. Each character of a value stands for one byte (ISO 8859-1), so that any
/// value of HTTP survives JSON and a text column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct CallHeaders(pub Vec<(String, String)>);

impl CallHeaders {
    /// Adds a header.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.0.push((
            name.to_owned(),
            value.iter().copied().map(char::from).collect(),
        ));
    }

    /// Names and values, in order. A character that stands for no byte becomes a question mark.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.0.iter().map(|(name, value)| {
            let bytes = value.chars().map(|c| u8::try_from(c).unwrap_or(b'?'));
            (name.as_str(), bytes.collect())
        })
    }

    /// The first value of `name`, in whatever case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_value_survives_a_document(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut headers = CallHeaders::default();
            headers.push("x-a", &value);
            let json = serde_json::to_string(&headers).expect("a document");
            let read: CallHeaders = serde_json::from_str(&json).expect("headers");
            let back: Vec<_> = read.iter().collect();
            prop_assert_eq!(back, vec![("x-a", value)]);
        }
    }
}
