//! The knobs that are set before there is a call: the function's config.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::knobs::Knobs;
use crate::socket::Kind;

/// What the environment asks for.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// Where the platform waits for the socket.
    pub(crate) listener: PathBuf,
    /// Every variable.
    pub(crate) config: BTreeMap<String, String>,
    /// What to put there.
    pub(crate) socket: Kind,
    /// Where the link of [`Kind::Elsewhere`] and the false one of [`Kind::Swap`] leads.
    pub(crate) target: Option<PathBuf>,
    /// Say on stderr that it starts.
    pub(crate) header: bool,
    /// Say on stderr that it ends.
    pub(crate) footer: bool,
    /// Wait before anything else.
    pub(crate) init_delay: Duration,
    /// Then exit with this code.
    pub(crate) init_exit: Option<i32>,
    /// Wait before it ends.
    pub(crate) exit_delay: Duration,
    /// Fail calls that the container was not started for.
    pub(crate) only_spawn_call: bool,
    /// The knobs of every call.
    pub(crate) knobs: Option<Knobs>,
}

impl Environment {
    /// Reads the variables. Fails when one of them has no meaning, so that a test with a typing
    /// error does not pass.
    pub(crate) fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let config: BTreeMap<String, String> = vars.collect();
        let get = |name: &str| {
            config
                .get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let millis = |name: &str| match get(name).map(str::parse) {
            None => Ok(Duration::ZERO),
            Some(Ok(millis)) => Ok(Duration::from_millis(millis)),
            Some(Err(_)) => Err(format!("{name} is not a number of milliseconds")),
        };
        let listener = get("FN_LISTENER").and_then(|value| value.strip_prefix("unix:"));
        let listener = Path::new(listener.ok_or("FN_LISTENER is not unix:PATH")?).to_owned();
        let socket = get("SOCKET_ATTACK").map_or(Ok(Kind::Link), str::parse)?;
        let knobs = match get("TEST_KNOBS").map(serde_json::from_str) {
            None => None,
            Some(Ok(value)) => Some(Knobs::from_value(value)?),
            Some(Err(error)) => return Err(format!("TEST_KNOBS is not JSON: {error}")),
        };
        Ok(Self {
            listener,
            socket,
            target: get("SOCKET_ATTACK_TARGET").map(PathBuf::from),
            header: get("ENABLE_HEADER").is_some(),
            footer: get("ENABLE_FOOTER").is_some(),
            init_delay: millis("ENABLE_INIT_DELAY_MSEC")?,
            init_exit: get("ENABLE_INIT_EXIT").map(|code| code.parse().unwrap_or(1)),
            exit_delay: millis("ENABLE_EXIT_DELAY_MSEC")?,
            only_spawn_call: get("FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH").is_some(),
            knobs,
            config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Result<Environment, String> {
        let listener = [("FN_LISTENER", "unix:/tmp/iofs/lsnr.sock")];
        let vars = listener.iter().chain(vars);
        Environment::from_vars(vars.map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn nothing_is_asked_for_by_default() {
        let environment = environment(&[("ENABLE_INIT_EXIT", "")]).unwrap();
        assert_eq!(environment.listener, Path::new("/tmp/iofs/lsnr.sock"));
        assert_eq!(
            (environment.init_delay, environment.init_exit),
            (Duration::ZERO, None)
        );
        assert!(!environment.header && !environment.only_spawn_call);
        assert_eq!(environment.socket, Kind::Link);
        assert!(environment.knobs.is_none());
    }

    #[test]
    fn every_knob_is_read() {
        let environment = environment(&[
            ("ENABLE_HEADER", "1"),
            ("ENABLE_INIT_DELAY_MSEC", "20000"),
            ("ENABLE_INIT_EXIT", "true"),
            ("SOCKET_ATTACK", "twohops"),
            ("TEST_KNOBS", r#"{"sleepTime": 5}"#),
        ])
        .unwrap();
        assert_eq!(environment.init_delay, Duration::from_secs(20));
        assert_eq!((environment.init_exit, environment.header), (Some(1), true));
        assert_eq!(environment.socket, Kind::TwoHops);
        assert_eq!(environment.knobs.unwrap().sleep_time, 5);
    }

    #[test]
    fn typing_errors_are_refused() {
        let bad = [
            ("SOCKET_ATTACK", "twohop"),
            ("ENABLE_INIT_DELAY_MSEC", "1s"),
            ("TEST_KNOBS", "{"),
            ("TEST_KNOBS", r#"{"sleeptime": 5}"#),
        ];
        for knob in bad {
            environment(&[knob]).unwrap_err();
        }
        assert!(Environment::from_vars(std::iter::empty()).is_err());
    }
}
