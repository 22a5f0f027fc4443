//! The names of objects and files that hold parts of logs:
//! `l/<time>/<spread>/<call id>/<epoch>-<start>-<length>`.
//!
//! The time is the first letters of the id, which change every 17 minutes, so that old logs are found
//! without a look at the others. The spread is its last two letters, so that no directory gets too
//! big. All that can stand in such a name are the letters of ids, digits, `-` and `/`.

use domain::{CallId, IdSource};
use object_store::path::Path;

use super::parts::PartKey;

/// The original's place for logs in a bucket is the same.
const ROOT: &str = "l";
/// Letters of an id that are its time to within [`SPAN_BITS`].
const TIME_LETTERS: usize = 6;
/// So many bits of milliseconds are behind these letters.
const SPAN_BITS: u32 = 20;
const SPREAD_LETTERS: usize = 2;

/// Where all logs are.
pub(super) fn root() -> Path {
    Path::from(ROOT)
}

/// Where the parts of a call's log are. The id has been checked.
pub(super) fn call(id: &CallId) -> Path {
    let id = id.as_str();
    let spread = &id[id.len() - SPREAD_LETTERS..];
    Path::from(format!("{ROOT}/{}/{spread}/{id}", &id[..TIME_LETTERS]))
}

/// Where a part is. Numbers are padded, so that names stand in the order of the log.
pub(super) fn part(id: &CallId, key: PartKey) -> Path {
    let PartKey { epoch, start, len } = key;
    call(id).join(format!("{epoch:06}-{start:07}-{len:07}"))
}

/// The part that has this name; none if it is not a part's.
pub(super) fn key(path: &Path) -> Option<PartKey> {
    let name = path.filename()?;
    let mut numbers = name.split('-');
    let key = PartKey {
        epoch: numbers.next()?.parse().ok()?,
        start: numbers.next()?.parse().ok()?,
        len: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(key)
}

/// The call to whose log a part of this name belongs.
pub(super) fn owner(path: &Path) -> Option<CallId> {
    let id = CallId::from(path.parts().nth(3)?.as_ref());
    id.made_at().map(|_| id)
}

/// Whether all calls under one of the directories of [`root`] were made before `unix_millis`.
pub(super) fn is_before(directory: &Path, unix_millis: u64) -> bool {
    let bound = IdSource::first_at(unix_millis >> SPAN_BITS << SPAN_BITS);
    directory
        .filename()
        .is_some_and(|time| time.len() == TIME_LETTERS && *time < bound[..TIME_LETTERS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_by_its_call_its_attempt_and_its_place() {
        let id = CallId::from("01D0S0000000000000000000A7");
        let key = PartKey {
            epoch: 3,
            start: 4096,
            len: 17,
        };
        let path = part(&id, key);
        assert_eq!(
            path.as_ref(),
            "l/01D0S0/A7/01D0S0000000000000000000A7/000003-0004096-0000017"
        );
        assert_eq!(super::key(&path), Some(key));
        assert_eq!(owner(&path), Some(id.clone()));
        for other in ["l/x/notes.txt", "l/x/1-2", "l/x/1-2-3-4", "l"] {
            assert_eq!(super::key(&Path::from(other)), None, "{other}");
        }
    }

    #[test]
    fn a_directory_is_old_when_its_last_call_is() {
        let time = 1_700_000_000_000;
        let span = 1 << SPAN_BITS;
        let path = call(&CallId::from(IdSource::first_at(time)));
        let directory = Path::from_iter(path.parts().take(2));
        assert!(!is_before(&directory, time));
        assert!(is_before(&directory, time + span));
        let end = (time / span + 1) * span;
        assert!(!is_before(&directory, end - 1));
        assert!(is_before(&directory, end));
        assert!(!is_before(&Path::from("l/other"), u64::MAX >> 16));
    }
}
