//! What the platform says in the environment (spec/03 3.1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;

/// The function's environment, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    listener: PathBuf,
    config: Arc<BTreeMap<String, String>>,
}

impl Settings {
    /// Reads the process's environment. Variables that are not UTF-8 are left out.
    ///
    /// # Errors
    /// `FN_FORMAT` or `FN_LISTENER` is missing or says something else than `http-stream` and
    /// `unix:/absolute/path`.
    pub fn from_env() -> Result<Self, Error> {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        Self::from_vars(std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?))))
    }

    /// The same from any list of variables; for tests.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let config: BTreeMap<String, String> = vars.into_iter().collect();
        let get = |name: &'static str| {
            let value = config.get(name).filter(|value| !value.is_empty());
            value.ok_or(Error::MissingVariable(name))
        };
        let format = get("FN_FORMAT")?;
        if format != "http-stream" {
            return Err(Error::UnsupportedFormat(format.clone()));
        }
        let listener = get("FN_LISTENER")?;
        let path = listener.strip_prefix("unix:").map(Path::new);
        match path.filter(|path| path.is_absolute() && path.file_name().is_some()) {
            Some(path) => Ok(Self {
                listener: path.to_owned(),
                config: Arc::new(config),
            }),
            None => Err(Error::InvalidListener(listener.clone())),
        }
    }

    pub(crate) fn listener(&self) -> &Path {
        &self.listener
    }

    pub(crate) fn config(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::from_vars(vars.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())))
    }

    #[test]
    fn the_platforms_variables_are_needed_and_checked() {
        let format = ("FN_FORMAT", "http-stream");
        let message = |vars: &[(&str, &str)]| settings(vars).unwrap_err().to_string();
        assert!(message(&[]).contains("no FN_FORMAT"));
        assert!(message(&[("FN_FORMAT", "")]).contains("no FN_FORMAT"));
        assert!(message(&[format]).contains("no FN_LISTENER"));
        assert!(message(&[("FN_FORMAT", "json"), ("FN_LISTENER", "unix:/s")]).contains("\"json\""));
        for bad in [
            "/tmp/s",
            "unix:s",
            "unix:/",
            "unix:",
            "tcp:/tmp/s",
            "unix:/tmp/..",
        ] {
            assert!(message(&[format, ("FN_LISTENER", bad)]).contains(bad));
        }
    }

    #[test]
    fn the_config_is_the_whole_environment() {
        let vars = [
            ("FN_FORMAT", "http-stream"),
            ("FN_LISTENER", "unix:/tmp/iofs/lsnr.sock"),
            ("GREETING", "Hi"),
        ];
        let settings = settings(&vars).unwrap();
        assert_eq!(settings.listener(), Path::new("/tmp/iofs/lsnr.sock"));
        assert_eq!(settings.config()["GREETING"], "Hi");
        assert_eq!(settings.config().len(), 3);
    }
}
