//! Database URLs: which store they name, and how they may be shown (spec/09 9.1).

use std::fmt;
use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;
use url::Url;

/// What a URL names.
#[derive(Debug)]
pub(super) enum Target {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

/// Why a URL names no store. The text holds no part of the URL that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `<scheme>://`.
    #[error(
        "the database URL has no scheme; sqlite3://<path> and postgres://<server>/<database> are supported"
    )]
    NoScheme,
    /// A scheme that the original knew.
    #[error("DB helper 'mysql' is not supported: MySQL is not built yet")]
    MySql,
    /// Any other scheme.
    #[error("DB helper '{0}' is not supported")]
    UnknownScheme(String),
    /// Where a file must be named.
    #[error("the database URL must name a file: sqlite3://<path>")]
    NoFile,
    /// Where a server must be named.
    #[error("the database URL cannot be read: {0}")]
    Unreadable(&'static str),
    /// A query key that is not known.
    #[error("the database URL has an unknown parameter '{0}'")]
    UnknownParameter(String),
}

/// Keys of a PostgreSQL URL. sqlx would write a key that it does not know to the log, with its value.
const POSTGRES_PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

impl Target {
    /// Reads a URL.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        match scheme {
            "sqlite" | "sqlite3" => match rest {
                "" | ":memory:" => Err(UrlError::NoFile),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            },
            "postgres" | "postgresql" | "pgx" => Self::parse_postgres(rest),
            "mysql" => Err(UrlError::MySql),
            other => Err(UrlError::UnknownScheme(other.to_owned())),
        }
    }

    fn parse_postgres(rest: &str) -> Result<Self, UrlError> {
        // The messages of these errors are fixed texts without any part of the URL.
        let url = Url::parse(&format!("postgres://{rest}"))
            .map_err(|_| UrlError::Unreadable("it is not a URL"))?;
        let unknown = url
            .query_pairs()
            .map(|(key, _)| key.into_owned())
            .find(|key| !POSTGRES_PARAMETERS.contains(&key.as_str()));
        if let Some(key) = unknown {
            return Err(UrlError::UnknownParameter(key));
        }
        let options = url
            .as_str()
            .parse()
            .map_err(|_| UrlError::Unreadable("a value has the wrong form"))?;
        Ok(Self::Postgres(Box::new(options)))
    }
}

impl fmt::Display for Target {
    /// For logs: where the data is, without user, password and parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite3://{}", path.display()),
            Self::Postgres(options) => {
                let database = options.get_database().unwrap_or(options.get_username());
                match options.get_socket() {
                    Some(socket) => write!(f, "postgres://{}/{database}", socket.display()),
                    None => write!(
                        f,
                        "postgres://{}:{}/{database}",
                        options.get_host(),
                        options.get_port()
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        match Target::parse(url) {
            Ok(target) => target.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn schemes_choose_the_store() {
        assert_eq!(shown("sqlite3://data/fn.db"), "sqlite3://data/fn.db");
        assert_eq!(shown("sqlite:///var/fn.db"), "sqlite3:///var/fn.db");
        for scheme in ["postgres", "postgresql", "pgx"] {
            let url = format!("{scheme}://user@host:5433/db?sslmode=disable");
            assert_eq!(shown(&url), "postgres://host:5433/db");
        }
        assert_eq!(
            shown("postgres://localhost/db?host=/run/postgresql&user=u"),
            "postgres:///run/postgresql/db"
        );
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        assert_eq!(
            shown("oracle://h/db"),
            "DB helper 'oracle' is not supported"
        );
        assert_eq!(
            shown("mysql://user:hunter2@tcp(host:3306)/db"),
            "DB helper 'mysql' is not supported: MySQL is not built yet"
        );
        assert_eq!(
            Target::parse("fn.db").expect_err("bare"),
            UrlError::NoScheme
        );
        for url in ["sqlite3://", "sqlite3://:memory:"] {
            assert_eq!(Target::parse(url).expect_err(url), UrlError::NoFile);
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://user:hunter2@host/db",
            "postgres://user@host/db?password=hunter2",
            "postgres://user@host/db?sslpassword=hunter2",
            "postgres://user:hunter2@host:port/db",
            "postgres://user:hunter2@host/db?sslmode=hunter2",
            "postgres://user:hunter2@host/db?port=hunter2",
            "user:hunter2@host",
        ] {
            assert!(!shown(url).contains("hunter2"), "{}", shown(url));
        }
    }
}
