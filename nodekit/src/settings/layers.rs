//! The layers that settings come from, and what is wrong in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::effective::{Effective, EffectiveSetting};
use super::{Declaration, Kind, Settings};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The declaration.
    Default,
    /// The TOML file of this name.
    File(String),
    /// The environment.
    Environment,
    /// A flag.
    Flag,
    /// The file named by `<NAME>_FILE`, which itself came from the other origin.
    Indirect(String, Box<Origin>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => f.write_str(name),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
            Self::Indirect(path, origin) => write!(f, "{path}, named by the {origin}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The value cannot be read. The value is masked when the setting is a secret.
    #[error("error invalid {name}={value} (from {origin}): {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value, masked where it must be.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// No node has such a setting.
    #[error("error unknown setting {name} (from {origin})")]
    Unknown {
        /// The name that was given.
        name: String,
        /// Where it was given.
        origin: Origin,
    },
    /// A setting and its `_FILE` twin are both given in one layer.
    #[error("error {name} and {name}_FILE are both given (from {origin})")]
    Twice {
        /// The setting.
        name: String,
        /// Where both were given.
        origin: Origin,
    },
    /// The file named by `<NAME>_FILE` cannot be read.
    #[error("error invalid {name}_FILE={path} (from {origin}): {reason}")]
    Unreadable {
        /// The setting.
        name: String,
        /// The file.
        path: String,
        /// Where its name came from.
        origin: Origin,
        /// What the system said.
        reason: String,
    },
    /// The TOML file is not TOML.
    #[error("error invalid configuration file {file}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
}

/// Everything that is wrong with the configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(pub Vec<SettingError>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// Reads a small file whole.
pub type ReadFile<'a> = dyn Fn(&Path) -> std::io::Result<String> + 'a;

/// What the process found, to be read as settings.
#[derive(Default)]
pub struct Sources<'a> {
    /// Name and contents of the TOML file.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// `NAME=VALUE` pairs of flags; the last of a name counts.
    pub flags: Vec<(String, String)>,
    /// Reads the files named by `<NAME>_FILE`.
    pub read_file: Option<&'a ReadFile<'a>>,
}

impl fmt::Debug for Sources<'_> {
    /// Shows no values: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file.map(|(name, _)| name))
            .field("environment", &self.environment.len())
            .field("flags", &self.flags.len())
            .finish_non_exhaustive()
    }
}

struct Layer {
    origin: Origin,
    values: BTreeMap<String, String>,
    used: BTreeSet<String>,
}

impl Layer {
    fn new(origin: Origin, values: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            origin,
            values: values.into_iter().collect(),
            used: BTreeSet::new(),
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.used.insert(name.to_owned());
        self.values.get(name).cloned()
    }

    fn unused(&self) -> impl Iterator<Item = &String> {
        self.values.keys().filter(|name| !self.used.contains(*name))
    }
}

/// The layers, from which the tables of all nodes are loaded one after the other, so that
/// [`Layers::finish`] knows every name.
pub struct Layers<'a> {
    /// Highest first.
    layers: Vec<Layer>,
    read_file: Option<&'a ReadFile<'a>>,
    errors: Vec<SettingError>,
    settings: Vec<EffectiveSetting>,
}

impl fmt::Debug for Layers<'_> {
    /// Shows no values: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

impl<'a> Layers<'a> {
    /// Only defaults.
    pub fn empty() -> Self {
        Self::new(Sources::default())
    }

    /// Takes in the layers. What is wrong is reported by [`Layers::finish`].
    pub fn new(sources: Sources<'a>) -> Self {
        let mut errors = Vec::new();
        let mut layers = vec![
            Layer::new(Origin::Flag, sources.flags),
            // An empty variable is how compose files and charts leave a setting out.
            Layer::new(
                Origin::Environment,
                sources
                    .environment
                    .into_iter()
                    .filter(|(_, value)| !value.is_empty()),
            ),
        ];
        if let Some((name, contents)) = sources.file {
            let origin = Origin::File(name.to_owned());
            layers.push(Layer::new(
                origin.clone(),
                read_toml(&origin, contents, &mut errors),
            ));
        }
        Self {
            layers,
            read_file: sources.read_file,
            errors,
            settings: Vec::new(),
        }
    }

    /// Loads a table. A bad value stands at its default until [`Layers::finish`] reports it.
    pub fn load<T: Settings>(&mut self) -> T {
        T::resolve(self)
    }

    /// The effective configuration of all tables that were loaded.
    ///
    /// # Errors
    /// Every bad value, and every name that no loaded table declares, except in the environment,
    /// which holds other programs' variables too: those are named by [`Effective::ignored`].
    pub fn finish(mut self) -> Result<Effective, SettingsError> {
        let mut ignored = Vec::new();
        for layer in &self.layers {
            for name in layer.unused() {
                if layer.origin != Origin::Environment {
                    self.errors.push(SettingError::Unknown {
                        name: name.clone(),
                        origin: layer.origin.clone(),
                    });
                } else if name.starts_with("FN_") {
                    ignored.push(name.clone());
                }
            }
        }
        if self.errors.is_empty() {
            Ok(Effective::new(self.settings, ignored))
        } else {
            Err(SettingsError(self.errors))
        }
    }

    /// The value of one declared setting; called by the code that `settings!` makes.
    #[doc(hidden)]
    pub fn value<K: Kind>(&mut self, declaration: Option<&Declaration>) -> K::Value {
        let declaration = declaration.expect("the macro declares each field once");
        let (text, origin) = match self.lookup(declaration.name) {
            Some(found) => found,
            None => (declaration.default.to_owned(), Origin::Default),
        };
        let value = K::parse(&text).unwrap_or_else(|reason| {
            self.errors.push(SettingError::Invalid {
                name: declaration.name.to_owned(),
                value: K::show(&text),
                origin: origin.clone(),
                reason,
            });
            K::parse(declaration.default).unwrap_or_else(|reason| {
                unreachable!("the default of {} is invalid: {reason}", declaration.name)
            })
        });
        self.settings.push(EffectiveSetting {
            declaration: *declaration,
            shown: K::show(&text),
            origin,
        });
        value
    }

    /// The text of the highest layer that has it, and where it came from.
    fn lookup(&mut self, name: &str) -> Option<(String, Origin)> {
        let mut found = None;
        let file_name = format!("{name}_FILE");
        for layer in &mut self.layers {
            let direct = layer.take(name);
            let path = layer.take(&file_name);
            if direct.is_some() && path.is_some() {
                self.errors.push(SettingError::Twice {
                    name: name.to_owned(),
                    origin: layer.origin.clone(),
                });
            }
            if found.is_some() {
                continue;
            }
            if let Some(text) = direct {
                found = Some((text, layer.origin.clone()));
            } else if let Some(path) = path {
                let contents = match self.read_file {
                    Some(read) => read(Path::new(&path)).map_err(|error| error.to_string()),
                    None => Err("files cannot be read here".to_owned()),
                };
                match contents {
                    Ok(text) => {
                        let origin = Origin::Indirect(path, Box::new(layer.origin.clone()));
                        found = Some((text.trim().to_owned(), origin));
                    }
                    Err(reason) => self.errors.push(SettingError::Unreadable {
                        name: name.to_owned(),
                        path,
                        origin: layer.origin.clone(),
                        reason,
                    }),
                }
            }
        }
        found
    }
}

/// The flat keys of a TOML file, each as the text that the environment would hold.
fn read_toml(
    origin: &Origin,
    contents: &str,
    errors: &mut Vec<SettingError>,
) -> BTreeMap<String, String> {
    let table = match contents.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            // The message only: the full rendering quotes the line, which may hold a secret.
            let line = error.span().map_or(1, |span| {
                1 + contents[..span.start.min(contents.len())]
                    .matches('\n')
                    .count()
            });
            errors.push(SettingError::Syntax {
                file: origin.to_string(),
                reason: format!("line {line}: {}", error.message()),
            });
            return BTreeMap::new();
        }
    };
    let mut values = BTreeMap::new();
    for (name, value) in table {
        match scalar(&value) {
            Some(text) => {
                values.insert(name, text);
            }
            None => errors.push(SettingError::Syntax {
                file: origin.to_string(),
                reason: format!(
                    "{name} must be a string, a number, a boolean or a list of strings"
                ),
            }),
        }
    }
    values
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => {
            let words: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(words?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::settings::kinds::{Bool, Int, Millis, Secret, Text, Timeout, Url, Words};
    use crate::settings::{ExposeSecret as _, SecretString};

    crate::settings! {
        /// One setting of each kind.
        pub(crate) struct Sample {
            /// A number.
            FN_NUMBER: Int<u16> = "1" => number: u16;
            /// A truth.
            FN_TRUTH: Bool = "false" => truth: bool;
            /// A text.
            FN_TEXT: Text = "default" => text: String;
            /// A secret.
            FN_SECRET: Secret = "" => secret: SecretString;
            /// A URL.
            FN_URL: Url = "" => url: String;
            /// Words.
            FN_WORDS: Words = "" => words: Vec<String>;
            /// A time-out.
            FN_TIMEOUT: Timeout = "10s" => timeout: Option<Duration>;
            /// Milliseconds.
            FN_MILLIS: Millis = "50" => millis: Option<Duration>;
            /// A setting whose own name ends as that of a twin.
            FN_LOAD_FILE: Text = "" => load_file: String;
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn load(
        file: &str,
        environment: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> (Sample, Result<Effective, SettingsError>) {
        let files = BTreeMap::from([("/run/secret", " hunter2\n"), ("/run/number", "x\n")]);
        let read = |path: &Path| {
            let found = path.to_str().and_then(|path| files.get(path));
            found
                .map(|text| (*text).to_owned())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let mut layers = Layers::new(Sources {
            file: Some(("hearth.toml", file)),
            environment: pairs(environment),
            flags: pairs(flags),
            read_file: Some(&read),
        });
        let sample = layers.load::<Sample>();
        (sample, layers.finish())
    }

    fn errors(outcome: Result<Effective, SettingsError>) -> Vec<String> {
        outcome
            .expect_err("errors")
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn defaults_stand_when_nothing_is_said() {
        let sample = Sample::default();
        assert_eq!(sample.number, 1);
        assert!(!sample.truth);
        assert_eq!((sample.text.as_str(), sample.url.as_str()), ("default", ""));
        assert_eq!(sample.timeout, Some(Duration::from_secs(10)));
        assert_eq!(sample.millis, Some(Duration::from_millis(50)));
    }

    #[test]
    fn the_later_layer_wins() {
        let file = "FN_NUMBER = 2\nFN_TRUTH = true\nFN_WORDS = [\"a\", \"b\"]\nFN_TEXT = \"file\"";
        let (sample, outcome) = load(
            file,
            &[("FN_NUMBER", "3"), ("FN_TEXT", "")],
            &[("FN_NUMBER", "4"), ("FN_NUMBER", "5")],
        );
        assert_eq!(sample.number, 5);
        assert!(sample.truth);
        assert_eq!(sample.words, ["a", "b"]);
        assert_eq!(sample.text, "file", "an empty variable says nothing");
        let origins: BTreeMap<&str, String> = outcome
            .expect("a sound configuration")
            .settings()
            .iter()
            .map(|setting| (setting.declaration.name, setting.origin.to_string()))
            .collect();
        assert_eq!(origins["FN_NUMBER"], "flag");
        assert_eq!(origins["FN_TRUTH"], "hearth.toml");
        assert_eq!(origins["FN_MILLIS"], "default");
    }

    #[test]
    fn a_value_may_stand_in_a_file() {
        let (sample, outcome) = load(
            "FN_SECRET = \"plain\"",
            &[
                ("FN_SECRET_FILE", "/run/secret"),
                ("FN_LOAD_FILE", "/run/absent"),
            ],
            &[],
        );
        outcome.expect("a sound configuration");
        assert_eq!(sample.secret.expose_secret(), "hunter2");
        assert_eq!(sample.load_file, "/run/absent");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let (_, outcome) = load(
            "FN_NUMBER = 70000\nFN_TRUTH = \"maybe\"\nfn_text = \"\"\n",
            &[
                ("FN_URL", "u:hunter2@host"),
                ("FN_MILLIS_FILE", "/run/absent"),
                ("FN_OTHERS", "1"),
                ("PATH", "/bin"),
            ],
            &[
                ("FN_TIMEOUT", "soon"),
                ("FN_TXT", "x"),
                ("FN_TEXT", "a"),
                ("FN_TEXT_FILE", "b"),
            ],
        );
        assert_eq!(
            errors(outcome),
            [
                "error invalid FN_NUMBER=70000 (from hearth.toml): not a whole number from 0 to 65535",
                "error invalid FN_TRUTH=maybe (from hearth.toml): neither true nor false",
                "error FN_TEXT and FN_TEXT_FILE are both given (from flag)",
                "error invalid FN_URL=u:****@host (from environment): not a URL",
                "error invalid FN_TIMEOUT=soon (from flag): not a duration such as 300ms, 10s or 2m30s",
                "error invalid FN_MILLIS_FILE=/run/absent (from environment): entity not found",
                "error unknown setting FN_TXT (from flag)",
                "error unknown setting fn_text (from hearth.toml)",
            ]
        );
    }

    #[test]
    fn a_bad_value_in_a_file_names_the_file() {
        let (_, outcome) = load("", &[("FN_NUMBER_FILE", "/run/number")], &[]);
        assert_eq!(
            errors(outcome),
            [
                "error invalid FN_NUMBER=x (from /run/number, named by the environment): not a whole number from 0 to 65535"
            ]
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_named_and_not_quoted() {
        let (_, outcome) = load("FN_NUMBER = 1\nFN_SECRET = hunter2", &[], &[]);
        let errors = errors(outcome);
        assert!(
            errors[0].starts_with("error invalid configuration file hearth.toml: line 2: "),
            "{errors:?}"
        );
        assert!(!errors.concat().contains("hunter2"), "{errors:?}");
        let (_, outcome) = load("[FN_NUMBER]\nx = 1", &[], &[]);
        assert!(outcome.is_err());
    }

    #[test]
    fn what_others_keep_in_the_environment_is_only_named() {
        let (_, outcome) = load("", &[("FN_OTHERS", "1"), ("HOME", "/")], &[]);
        assert_eq!(
            outcome.expect("a sound configuration").ignored(),
            ["FN_OTHERS"]
        );
    }

    #[test]
    fn the_effective_configuration_is_toml_without_secrets() {
        let (_, outcome) = load(
            "",
            &[
                ("FN_SECRET", "hunter2"),
                ("FN_URL", "postgres://u:hunter2@h/d"),
            ],
            &[("FN_TEXT", "a \"quoted\"\ntext")],
        );
        let text = outcome.expect("a sound configuration").to_string();
        assert!(!text.contains("hunter2"), "{text}");
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(table["FN_SECRET"].as_str(), Some("****"));
        assert_eq!(table["FN_URL"].as_str(), Some("postgres://u:****@h/d"));
        assert_eq!(table["FN_TEXT"].as_str(), Some("a \"quoted\"\ntext"));
        assert_eq!(table.len(), Sample::TABLE.len());
    }
}
