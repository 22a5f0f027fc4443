//! When a call came in: by the database's clock, and near the time in its id.

use domain::{CallId, Timestamp};

/// Ids are made where a call comes in, by the clock of that node. The time of acceptance is never
/// further from the id's than this, in milliseconds: so a list finds a range of times as a range of ids,
/// and passes over few calls at its ends, whatever clocks show.
pub(super) const ID_SLACK: i64 = 2000;

/// `time`, or the time next to it that is near enough to the id's, if the id has one.
pub(super) fn near_id(id: &CallId, time: Timestamp) -> Timestamp {
    let Some(made_at) = id.made_at().and_then(|made_at| i64::try_from(made_at).ok()) else {
        return time;
    };
    let near = time
        .unix_millis()
        .clamp(made_at - ID_SLACK, made_at + ID_SLACK);
    Timestamp::from_unix_millis(near)
}

#[cfg(test)]
mod tests {
    use domain::IdSource;

    use super::*;

    #[test]
    fn a_time_is_brought_near_to_that_of_the_id() {
        let id = CallId::from(IdSource::new(1).next(1_000_000));
        let near = |time| near_id(&id, Timestamp::from_unix_millis(time)).unix_millis();
        assert_eq!(near(1_001_999), 1_001_999);
        assert_eq!(near(998_001), 998_001);
        assert_eq!(near(5_000_000), 1_002_000);
        assert_eq!(near(0), 998_000);
        let foreign = near_id(&CallId::from("x"), Timestamp::from_unix_millis(7));
        assert_eq!(foreign.unix_millis(), 7);
    }
}
