//! The configuration that is in force, fit to be shown.

use std::fmt;

use super::{Declaration, Origin};

/// One setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// What it is.
    pub declaration: Declaration,
    /// Its value, with secrets and passwords masked.
    pub shown: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// The effective configuration. Its `Display` is a TOML document, with the origins as comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    settings: Vec<EffectiveSetting>,
    ignored: Vec<String>,
}

impl Effective {
    pub(super) fn new(settings: Vec<EffectiveSetting>, ignored: Vec<String>) -> Self {
        Self { settings, ignored }
    }

    /// Every setting, table by table.
    pub fn settings(&self) -> &[EffectiveSetting] {
        &self.settings
    }

    /// Variables of the environment that look like settings and are none; worth a warning.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.settings {
            let value = toml::Value::String(setting.shown.clone());
            writeln!(
                f,
                "{} = {value} # {}",
                setting.declaration.name, setting.origin
            )?;
        }
        Ok(())
    }
}
