//! What changes and who runs, as messages of the hybrid service, and back.

use domain::{AppId, Change, FnId, HostPort, HostPortError, RegisteredRunner};

use crate::hybrid::change_notice::What;
use crate::hybrid::{self, ChangeNotice, Everything};

/// `change` as a message.
pub fn notice_of(change: &Change) -> ChangeNotice {
    let what = match change {
        Change::App(id) => What::AppId(id.to_string()),
        Change::Fn(id) => What::FnId(id.to_string()),
        Change::Triggers(app) => What::TriggersOfAppId(app.to_string()),
        Change::Everything => What::Everything(Everything {}),
    };
    ChangeNotice { what: Some(what) }
}

/// The change that a message tells of. A message without one says that the watch has begun, or
/// comes from a newer API node: what was read before is not certain either way.
pub fn change_of(notice: ChangeNotice) -> Change {
    match notice.what {
        Some(What::AppId(id)) => Change::App(AppId::from(id)),
        Some(What::FnId(id)) => Change::Fn(FnId::from(id)),
        Some(What::TriggersOfAppId(app)) => Change::Triggers(AppId::from(app)),
        Some(What::Everything(Everything {})) | None => Change::Everything,
    }
}

/// `runner` as a message.
pub fn message_of(runner: &RegisteredRunner) -> hybrid::RegisteredRunner {
    hybrid::RegisteredRunner {
        runner_id: runner.id.to_string(),
        address: runner.address.to_string(),
        version: runner.version.to_string(),
        draining: runner.draining,
    }
}

/// The runner of a message.
///
/// # Errors
/// Its address is none.
pub fn runner_of(message: hybrid::RegisteredRunner) -> Result<RegisteredRunner, HostPortError> {
    Ok(RegisteredRunner {
        id: message.runner_id.into(),
        address: HostPort::parse(&message.address)?,
        version: message.version.into(),
        draining: message.draining,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_as_themselves() {
        let changes = [
            Change::App(AppId::from("a")),
            Change::Fn(FnId::from("f")),
            Change::Triggers(AppId::from("a")),
            Change::Everything,
        ];
        for change in changes {
            assert_eq!(change_of(notice_of(&change)), change);
        }
        assert_eq!(change_of(ChangeNotice { what: None }), Change::Everything);
    }

    #[test]
    fn runners_come_back_as_themselves() {
        let runner = RegisteredRunner {
            id: "r".into(),
            address: HostPort::parse("runner:9190").expect("an address"),
            version: "1".into(),
            draining: true,
        };
        assert_eq!(runner_of(message_of(&runner)), Ok(runner.clone()));
        let mut message = message_of(&runner);
        message.address.clear();
        assert_eq!(runner_of(message), Err(HostPortError::NoPort));
    }
}
