//! Why an API node did not answer, in a text for the log.

use std::error::Error as _;
use std::fmt;

use tonic::Status;

/// Shows a status by its text and by what is at the bottom of it: a transport tells of itself first,
/// and of what happened last.
pub(super) struct Why<'a>(pub(super) &'a Status);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        let text = match status.message() {
            "" => status.code().description(),
            text => text,
        };
        f.write_str(text)?;
        let mut bottom = None;
        let mut next = status.source();
        while let Some(cause) = next {
            bottom = Some(cause.to_string());
            next = cause.source();
        }
        match bottom.filter(|bottom| !text.contains(bottom.as_str())) {
            Some(bottom) => write!(f, ": {bottom}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tonic::Code;

    use super::*;

    fn broken(text: &str, bottom: &str) -> Status {
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Transport(#[source] io::Error);
        let mut status = Status::new(Code::Unknown, text);
        status.set_source(Arc::new(Transport(io::Error::other(bottom))));
        status
    }

    #[test]
    fn the_bottom_is_told_once_and_the_layers_between_are_not() {
        for (status, expected) in [
            (Status::unavailable("it stops"), "it stops"),
            (
                Status::new(Code::Unavailable, ""),
                Code::Unavailable.description(),
            ),
            (
                broken("error reading", "broken pipe"),
                "error reading: broken pipe",
            ),
            (
                broken("cannot connect: refused", "refused"),
                "cannot connect: refused",
            ),
        ] {
            assert_eq!(Why(&status).to_string(), expected);
        }
    }
}
