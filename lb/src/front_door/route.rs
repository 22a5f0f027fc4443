//! Which paths the front door answers (spec/01 1.8, 1.9).
//!
//! As in the original, the path is matched after percent-decoding and is otherwise taken as it is:
//! `//`, `.` and `..` mean nothing, an escaped slash is a slash. What is not UTF-8 after decoding, or
//! not a proper escape, simply names nothing that exists.

use std::borrow::Cow;

use domain::ErrorCode;
use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/invoke/<fn id>`
    Invoke { fn_id: &'a str },
    /// `/invoke/<fn id>/`, which the original redirects to the path without the slash.
    InvokeSlash,
    /// `/t/<app name>` or `/t/<app name>/...`; the source begins with a slash.
    Trigger {
        template: &'static str,
        app_name: &'a str,
        source: &'a str,
    },
    /// A path of the front door with a name that nothing can have.
    Unknown {
        template: &'static str,
        error: ErrorCode,
    },
    /// Not a path of the front door.
    Elsewhere,
}

/// The templates of the front door's paths, as they stand in metrics.
pub(super) const INVOKE: &str = "/invoke/:fn_id";
pub(super) const TRIGGER_ROOT: &str = "/t/:app_name";
pub(super) const TRIGGER: &str = "/t/:app_name/*trigger_source";

/// A path after percent-decoding; decoding allocates only if there is something to decode.
pub(super) fn decode(path: &str) -> Cow<'_, [u8]> {
    percent_decode_str(path).into()
}

/// What the decoded `path` asks for.
pub(super) fn route(path: &[u8]) -> Route<'_> {
    if let Some(rest) = path.strip_prefix(b"/invoke/") {
        return invoke(rest);
    }
    if let Some(rest) = path.strip_prefix(b"/t/") {
        return trigger(rest);
    }
    Route::Elsewhere
}

fn invoke(rest: &[u8]) -> Route<'_> {
    let slash = rest.iter().position(|&byte| byte == b'/');
    match slash {
        _ if rest.is_empty() => Route::Elsewhere,
        Some(0) => Route::Elsewhere,
        Some(at) if at + 1 == rest.len() => Route::InvokeSlash,
        Some(_) => Route::Elsewhere,
        None => match std::str::from_utf8(rest) {
            Ok(fn_id) => Route::Invoke { fn_id },
            Err(_) => Route::Unknown {
                template: INVOKE,
                error: ErrorCode::FnNotFound,
            },
        },
    }
}

fn trigger(rest: &[u8]) -> Route<'_> {
    if rest.is_empty() {
        return Route::Elsewhere;
    }
    let slash = rest.iter().position(|&byte| byte == b'/');
    let (app_name, source) = match slash {
        Some(at) => rest.split_at(at),
        None => (rest, &b"/"[..]),
    };
    let template = if slash.is_some() {
        TRIGGER
    } else {
        TRIGGER_ROOT
    };
    match (std::str::from_utf8(app_name), std::str::from_utf8(source)) {
        (Ok(app_name), Ok(source)) => Route::Trigger {
            template,
            app_name,
            source,
        },
        (Err(_), _) => Route::Unknown {
            template,
            error: ErrorCode::AppNotFound,
        },
        (_, Err(_)) => Route::Unknown {
            template,
            error: ErrorCode::TriggerNotFound,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn expect(path: &str, expected: Route<'_>) {
        assert_eq!(route(&decode(path)), expected, "{path}");
    }

    fn source<'a>(app_name: &'a str, source: &'a str) -> Route<'a> {
        Route::Trigger {
            template: TRIGGER,
            app_name,
            source,
        }
    }

    #[test]
    fn invoke_takes_one_segment() {
        expect("/invoke/01F", Route::Invoke { fn_id: "01F" });
        expect("/invoke/%30%31F", Route::Invoke { fn_id: "01F" });
        expect("/%69nvoke/a", Route::Invoke { fn_id: "a" });
        expect("/invoke/..", Route::Invoke { fn_id: ".." });
        expect("/invoke/a%zz", Route::Invoke { fn_id: "a%zz" });
        expect("/invoke/a%00b", Route::Invoke { fn_id: "a\0b" });
        expect("/invoke/01F/", Route::InvokeSlash);
        for path in [
            "",
            "*",
            "/",
            "/invoke",
            "/invoke/",
            "/invoke//",
            "/invoke/a/b",
            "/invoke/a%2Fb",
            "/invoked/a",
        ] {
            expect(path, Route::Elsewhere);
        }
        let unknown = Route::Unknown {
            template: INVOKE,
            error: ErrorCode::FnNotFound,
        };
        expect("/invoke/%ff", unknown);
    }

    #[test]
    fn the_source_is_the_decoded_rest_as_it_is() {
        let root = Route::Trigger {
            template: TRIGGER_ROOT,
            app_name: "app",
            source: "/",
        };
        expect("/t/app", root);
        expect("/t/app/", source("app", "/"));
        expect("/t/app/a/b", source("app", "/a/b"));
        expect("/t/app/a/", source("app", "/a/"));
        expect("/t/app//a", source("app", "//a"));
        expect("/t/app/../b/.", source("app", "/../b/."));
        expect("/t/app/a%2Fb", source("app", "/a/b"));
        expect("/t/app%2Fa", source("app", "/a"));
        expect("/t/app/%C3%A4%20", source("app", "/ä "));
        expect("/t//a", source("", "/a"));
        expect("/t/", Route::Elsewhere);
        expect("/t", Route::Elsewhere);
        for (path, template, error) in [
            ("/t/%ff", TRIGGER_ROOT, ErrorCode::AppNotFound),
            ("/t/%ff/a", TRIGGER, ErrorCode::AppNotFound),
            ("/t/app/%ff", TRIGGER, ErrorCode::TriggerNotFound),
        ] {
            expect(path, Route::Unknown { template, error });
        }
    }

    proptest! {
        #[test]
        fn any_path_is_routed(path in "(/(t|invoke))?(/|%2f|%|%f|[a-z]|\\PC){0,12}") {
            let decoded = decode(&path);
            if let Route::Trigger { app_name, source, .. } = route(&decoded) {
                prop_assert!(source.starts_with('/') && !app_name.contains('/'));
            }
        }
    }
}
