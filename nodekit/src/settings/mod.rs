//! Settings: each table of a node is declared once, and from the declaration come the typed struct,
//! its loading from all layers, the report of every bad value, and the documentation.
//!
//! Layers, the later wins: defaults, TOML file, environment, flags. Nothing here reads the
//! environment or a file by itself: [`Sources`] carries what the process found.

mod duration;
mod effective;
pub mod kinds;
mod layers;
mod markdown;
mod mask;

pub use effective::{Effective, EffectiveSetting};
pub use markdown::markdown;
pub use secrecy::{ExposeSecret, SecretString};

pub use layers::{Layers, Origin, ReadFile, SettingError, SettingsError, Sources};

/// One setting, as its node declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declaration {
    /// The name in every layer, `FN_...`.
    pub name: &'static str,
    /// What its values look like, for documentation.
    pub kind: &'static str,
    /// The default, written as a user would write it.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
}

/// How the text of a setting becomes a value.
pub trait Kind {
    /// The type of the field that holds it.
    type Value;

    /// What values look like, for documentation.
    const NAME: &'static str;

    /// Whether values must never be shown.
    const SECRET: bool = false;

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with the text, without repeating it.
    fn parse(text: &str) -> Result<Self::Value, String>;

    /// How a value is shown: secrets and passwords masked.
    fn show(text: &str) -> String {
        if Self::SECRET && !text.is_empty() {
            mask::MASK.to_owned()
        } else {
            text.to_owned()
        }
    }
}

/// A table of settings; made by [`settings!`](crate::settings!).
pub trait Settings: Sized {
    /// Every setting of the table, in the order of declaration.
    const TABLE: &'static [Declaration];

    /// Reads every setting from the layers; bad values become errors there.
    fn resolve(layers: &mut Layers<'_>) -> Self;
}

/// Declares a table of settings and the struct that holds its values.
///
/// Each line reads `NAME: Kind = "default" => field: Type;` under the doc comment of the setting.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $table:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $kind:ty = $default:literal => $field:ident: $value:ty;
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $table {
            $(
                $(#[doc = $doc])+
                pub $field: $value,
            )+
        }

        impl $crate::settings::Settings for $table {
            const TABLE: &'static [$crate::settings::Declaration] = &[
                $($crate::settings::Declaration {
                    name: stringify!($name),
                    kind: <$kind as $crate::settings::Kind>::NAME,
                    default: $default,
                    doc: concat!($($doc),+),
                    secret: <$kind as $crate::settings::Kind>::SECRET,
                }),+
            ];

            fn resolve(layers: &mut $crate::settings::Layers<'_>) -> Self {
                let mut declarations = <Self as $crate::settings::Settings>::TABLE.iter();
                Self {
                    $($field: layers.value::<$kind>(declarations.next()),)+
                }
            }
        }

        impl Default for $table {
            /// The values of an empty configuration.
            fn default() -> Self {
                let mut layers = $crate::settings::Layers::empty();
                <Self as $crate::settings::Settings>::resolve(&mut layers)
            }
        }
    };
}
