//! The headers of a call, read from JSON straight into a header map.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// A JSON object of names and lists of values, as Go writes its headers.
#[derive(Debug, Default)]
pub(super) struct HeaderList(pub(super) HeaderMap);

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for HeaderList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Headers)
    }
}

struct Headers;

impl<'de> Visitor<'de> for Headers {
    type Value = HeaderList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of header names and lists of values")
    }

    /// Go writes an empty map as `null`.
    fn visit_unit<E>(self) -> Result<HeaderList, E> {
        Ok(HeaderList::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderList, A::Error> {
        let mut headers = HeaderMap::new();
        while let Some((Text(name), values)) =
            map.next_entry::<Text<'de>, Option<Vec<Text<'de>>>>()?
        {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| A::Error::custom("headers: not the name of a header"))?;
            for Text(value) in values.unwrap_or_default() {
                let value = HeaderValue::from_bytes(value.as_bytes())
                    .map_err(|_| A::Error::custom(format_args!("headers: bad value of {name}")))?;
                headers
                    .try_append(&name, value)
                    .map_err(|_| A::Error::custom("headers: too many"))?;
            }
        }
        Ok(HeaderList(headers))
    }
}
