//! Image references: what names an image, and in which registry it is (spec/05 5.4).
//!
//! A reference becomes part of the path of requests to the engine, so that nothing that is not one
//! may get past here.

use std::fmt;

/// The longest name without tag and digest, as in the engine.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// A reference in parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ImageReference {
    /// The registry's host and port; empty for the engine's default registry.
    pub(crate) registry: String,
    /// The path in the registry, with `library/` before a single name of the default registry.
    pub(crate) repository: String,
    /// The digest when there is one, else the tag, else `latest`.
    pub(crate) tag: String,
}

/// Why a text is not an image reference; the text is fit for the function's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format{}", if *.uppercase { ": repository name must be lowercase" } else { "" })]
pub(crate) struct InvalidReference {
    uppercase: bool,
}

impl ImageReference {
    /// Reads `repo[:tag][@digest]`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidReference> {
        let invalid = InvalidReference { uppercase: false };
        let (name_and_tag, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
            Some(_) => return Err(invalid),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before belongs to the registry's port.
        let last_slash = name_and_tag.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name_and_tag[last_slash..].find(':') {
            Some(at) => {
                let (name, tag) = name_and_tag.split_at(last_slash + at);
                (name, Some(&tag[1..]))
            }
            None => (name_and_tag, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) || name.len() > MAX_NAME_BYTES {
            return Err(invalid);
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest)
            }
            _ => ("", name),
        };
        if !registry.is_empty() && !is_registry(registry) {
            return Err(invalid);
        }
        if !path.split('/').all(is_path_component) {
            let lower = path.to_ascii_lowercase();
            let uppercase = lower != path && lower.split('/').all(is_path_component);
            return Err(InvalidReference { uppercase });
        }
        let library = registry.is_empty() && !path.contains('/');
        Ok(Self {
            registry: registry.to_owned(),
            repository: format!("{}{path}", if library { "library/" } else { "" }),
            tag: digest.or(tag).unwrap_or("latest").to_owned(),
        })
    }

    /// Registry and repository, as the engine wants them for a pull.
    pub(crate) fn name(&self) -> String {
        match &*self.registry {
            "" => self.repository.clone(),
            registry => format!("{registry}/{}", self.repository),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.tag.contains(':') { '@' } else { ':' };
        write!(f, "{}{separator}{}", self.name(), self.tag)
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric())
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit())
}

/// Lower-case letters and digits, in runs that one `.`, one or two `_`, or any `-` separate.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.split(alphanumeric).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|c| c == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= MAX_TAG_BYTES
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_part)
        && (32..=128).contains(&hex.len())
        && hex.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:8a1bcf1ba04c04f4a1b0c5c0a8d4b4a8ec2a0b0c7c5f5fd7ae8e6c9e1c2d3f40";

    fn parts(text: &str) -> (String, String, String) {
        let reference = ImageReference::parse(text).expect(text);
        (reference.registry, reference.repository, reference.tag)
    }

    #[test]
    fn the_case_table() {
        let with = |name: &str| format!("{name}@{DIGEST}");
        let cases: [(&str, &str, &str, &str); 10] = [
            ("mongo", "", "library/mongo", "latest"),
            ("mongo:v1", "", "library/mongo", "v1"),
            ("fnproject/x", "", "fnproject/x", "latest"),
            ("fnproject/x:v1", "", "fnproject/x", "v1"),
            ("my.registry/x", "my.registry", "x", "latest"),
            ("my.registry/x:v1", "my.registry", "x", "v1"),
            ("quay.com/a/b", "quay.com", "a/b", "latest"),
            ("quay.com:8080/a/b:v2", "quay.com:8080", "a/b", "v2"),
            (
                "localhost.localdomain:5000/a/b:latest",
                "localhost.localdomain:5000",
                "a/b",
                "latest",
            ),
            (
                "localhost.localdomain:5000/a/b/c:latest",
                "localhost.localdomain:5000",
                "a/b/c",
                "latest",
            ),
        ];
        for (text, registry, repository, tag) in cases {
            let expected = |tag: &str| (registry.into(), repository.into(), tag.into());
            assert_eq!(parts(text), expected(tag), "{text}");
            assert_eq!(parts(&with(text)), expected(DIGEST), "{text} with digest");
        }
        assert_eq!(parts("localhost/x").0, "localhost");
    }

    #[test]
    fn shows_what_it_means() {
        let shown = |text: &str| ImageReference::parse(text).expect(text).to_string();
        assert_eq!(shown("mongo"), "library/mongo:latest");
        let digest = format!("my.registry/x@{DIGEST}");
        assert_eq!(shown(&digest), digest);
    }

    #[test]
    fn refuses_what_the_engine_refuses() {
        for text in [
            "",
            " ",
            "a ",
            "/a",
            "a/",
            "a//b",
            "a:",
            "a:b:c",
            ":a",
            "a@",
            "a@sha256:12",
            "a@sha256:zz",
            "../containers/json",
            "a/../b",
            "a?all=1",
            "a#b",
            "a%2fb",
            "a\nb",
            "é",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a.b:x/c",
            "a.-b/c",
            "x:-v",
            ".a",
        ] {
            let refused = ImageReference::parse(text).expect_err(text);
            assert_eq!(refused.to_string(), "invalid reference format", "{text}");
        }
        let long = "a".repeat(256);
        assert!(ImageReference::parse(&long).is_err());
        assert_eq!(
            ImageReference::parse("Mongo")
                .expect_err("upper case")
                .to_string(),
            "invalid reference format: repository name must be lowercase"
        );
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_safe_in_a_path(text in "[a-zA-Z0-9./:@_?#% -]{0,40}") {
            if ImageReference::parse(&text).is_ok() {
                prop_assert!(!text.contains(['?', '#', '%', ' ']));
                prop_assert!(text.split('/').all(|part| part != "." && part != ".." && !part.is_empty()));
            }
        }
    }
}
