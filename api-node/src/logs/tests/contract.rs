//! What every store of logs promises.

use std::collections::BTreeSet;

use domain::{CallId, ErrorCode};
use futures_util::future::join_all;

use super::super::{ATTEMPT_LIMIT, LogCursor};
use super::{Fixture, append, call_made_at, chunk, follow, new_call, read};

/// Makes of each case a test on every store.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        contract!(@on sqlite, $($case)+);
        contract!(@on postgres, $($case)+);
        contract!(@on directory, $($case)+);
        contract!(@on s3, $($case)+);
    };
    (@on $place:ident, $($case:ident)+) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Fixture::$place().await).await;
                }
            )+
        }
    };
}

contract!(
    what_was_appended_is_read_attempt_by_attempt,
    what_is_appended_again_is_there_once,
    chunks_may_come_in_any_order_and_a_line_says_what_is_missing,
    every_byte_is_kept_as_it_is,
    a_log_has_a_limit_however_much_is_sent,
    a_log_that_is_followed_shows_what_comes_here_and_elsewhere,
    a_log_is_read_in_pages,
    a_call_without_a_log_has_none,
    a_deleted_log_is_gone_and_no_other,
    a_text_that_is_no_id_names_no_log,
    old_logs_are_pruned_and_young_ones_stay,
    appends_do_not_get_into_each_other,
    many_append_at_once_and_each_is_done,
);

async fn what_was_appended_is_read_attempt_by_attempt(f: Fixture) {
    let (id, other) = (new_call(), new_call());
    append(&f.logs, vec![chunk(&id, 2, 0, "third\n")]).await;
    append(
        &f.logs,
        vec![
            chunk(&id, 1, 0, "first\n"),
            chunk(&other, 1, 0, "another call\n"),
            chunk(&id, 1, 6, "second\n"),
        ],
    )
    .await;
    append(&f.logs, vec![chunk(&id, 11, 0, "fourth\n")]).await;
    let whole = "first\nsecond\nthird\nfourth\n";
    assert_eq!(read(&f.logs, &id).await.as_deref(), Some(whole));
    assert_eq!(
        read(&f.open_again().await, &id).await.as_deref(),
        Some(whole)
    );
    assert_eq!(
        read(&f.logs, &other).await.as_deref(),
        Some("another call\n")
    );
}

async fn what_is_appended_again_is_there_once(f: Fixture) {
    let id = new_call();
    let again = f.open_again().await;
    append(&f.logs, vec![chunk(&id, 1, 0, "one ")]).await;
    append(&again, vec![chunk(&id, 1, 0, "one ")]).await;
    append(&f.logs, vec![chunk(&id, 1, 0, "one two ")]).await;
    append(&again, vec![chunk(&id, 1, 0, "one")]).await;
    assert_eq!(read(&f.logs, &id).await.as_deref(), Some("one two "));
    append(&again, vec![chunk(&id, 1, 4, "two three ")]).await;
    append(&f.logs, vec![chunk(&id, 1, 6, "o three four")]).await;
    assert_eq!(
        read(&f.logs, &id).await.as_deref(),
        Some("one two three four")
    );
}

async fn chunks_may_come_in_any_order_and_a_line_says_what_is_missing(f: Fixture) {
    let id = new_call();
    append(&f.logs, vec![chunk(&id, 1, 10, "end")]).await;
    append(&f.logs, vec![chunk(&id, 1, 0, "begin")]).await;
    assert_eq!(
        read(&f.logs, &id).await.as_deref(),
        Some("begin\n-----5 bytes of the log are missing-----\nend")
    );
    append(&f.logs, vec![chunk(&id, 1, 5, ", so ")]).await;
    assert_eq!(read(&f.logs, &id).await.as_deref(), Some("begin, so end"));
}

async fn every_byte_is_kept_as_it_is(f: Fixture) {
    let id = new_call();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    append(&f.logs, vec![chunk(&id, 1, 0, all.clone())]).await;
    assert_eq!(f.logs.read(&id).await.expect("read").expect("it"), all);
}

async fn a_log_has_a_limit_however_much_is_sent(f: Fixture) {
    let id = new_call();
    let size = 300_000;
    for n in 0..10 {
        let data = vec![b'a' + n; size];
        append(
            &f.logs,
            vec![chunk(&id, 1, u64::from(n) * size as u64, data)],
        )
        .await;
    }
    append(&f.logs, vec![chunk(&id, 2, 0, "the next attempt")]).await;
    let log = read(&f.logs, &id).await.expect("a log");
    let (kept, rest) = log.split_at(ATTEMPT_LIMIT as usize);
    assert_eq!(
        kept.bytes().collect::<BTreeSet<_>>(),
        BTreeSet::from(*b"abcd")
    );
    assert_eq!(
        rest,
        "\n-----max log size 1048576 bytes exceeded, truncating log-----\nthe next attempt"
    );
}

async fn a_log_that_is_followed_shows_what_comes_here_and_elsewhere(f: Fixture) {
    let id = new_call();
    let elsewhere = f.open_again().await;
    let mut cursor = LogCursor::default();
    let (_, ()) = tokio::join!(follow(&f.logs, &id, &mut cursor, "one, two, "), async {
        append(&f.logs, vec![chunk(&id, 1, 0, "one, ")]).await;
        append(&elsewhere, vec![chunk(&id, 1, 5, "two, ")]).await;
    });
    // A cursor is a text between two requests.
    cursor = cursor.to_string().parse().expect("a cursor");
    let page = f.logs.read_from(&id, cursor).await.expect("read");
    let page = page.expect("there is a log");
    assert_eq!((page.data.len(), page.next, page.more), (0, cursor, false));
    append(&f.logs, vec![chunk(&id, 1, 8, ", three")]).await;
    append(&f.logs, vec![chunk(&id, 4, 0, ", again")]).await;
    follow(&f.logs, &id, &mut cursor, "three, again").await;
}

async fn a_log_is_read_in_pages(f: Fixture) {
    let id = new_call();
    let half = vec![b'x'; ATTEMPT_LIMIT as usize / 2];
    for epoch in 1..=5 {
        append(&f.logs, vec![chunk(&id, epoch, 0, half.clone())]).await;
    }
    let (mut cursor, mut pages, mut bytes) = (LogCursor::default(), 0, 0);
    loop {
        let page = f.logs.read_from(&id, cursor).await.expect("read");
        let page = page.expect("there is a log");
        assert!(page.data.len() as u64 <= 2 * ATTEMPT_LIMIT);
        (pages, bytes) = (pages + 1, bytes + page.data.len());
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!((pages, bytes), (3, 5 * half.len()));
    assert_eq!(read(&f.logs, &id).await.expect("a log").len(), bytes);
}

async fn a_call_without_a_log_has_none(f: Fixture) {
    let id = new_call();
    assert_eq!(read(&f.logs, &id).await, None);
    append(&f.logs, Vec::new()).await;
    append(&f.logs, vec![chunk(&id, 1, 0, "")]).await;
    assert_eq!(read(&f.logs, &id).await, None);
    let cursor = LogCursor::default();
    assert_eq!(f.logs.read_from(&id, cursor).await.expect("read"), None);
}

async fn a_deleted_log_is_gone_and_no_other(f: Fixture) {
    let (id, other) = (new_call(), new_call());
    for epoch in 1..=3 {
        let chunks = vec![chunk(&id, epoch, 0, "mine"), chunk(&other, epoch, 0, "!")];
        append(&f.logs, chunks).await;
    }
    for _ in 0..2 {
        f.logs
            .delete(&[id.clone(), new_call()])
            .await
            .expect("deleted");
        assert_eq!(read(&f.logs, &id).await, None);
        assert_eq!(read(&f.logs, &other).await.as_deref(), Some("!!!"));
    }
    f.logs.delete(&[]).await.expect("nothing to do");
    append(&f.logs, vec![chunk(&id, 1, 0, "new")]).await;
    assert_eq!(read(&f.logs, &id).await.as_deref(), Some("new"));
}

async fn a_text_that_is_no_id_names_no_log(f: Fixture) {
    let good = new_call();
    append(&f.logs, vec![chunk(&good, 1, 0, "mine")]).await;
    for text in [
        "",
        ".",
        "..",
        "../../../../../etc/passwd/x",
        "a/b",
        "%2e%2e",
        "\0",
    ] {
        let bad = CallId::from(text);
        let chunks = vec![chunk(&good, 2, 0, "x"), chunk(&bad, 1, 0, "x")];
        let error = f.logs.append(chunks).await.expect_err(text);
        assert_eq!(error.code(), ErrorCode::CallNotFound);
        assert_eq!(read(&f.logs, &bad).await, None);
        f.logs.delete(&[bad]).await.expect("nothing to do");
    }
    let error = f.logs.append(vec![chunk(&good, -1, 0, "x")]).await;
    assert_eq!(
        error.expect_err("no attempt").code(),
        ErrorCode::CallNotFound
    );
    assert_eq!(read(&f.logs, &good).await.as_deref(), Some("mine"));
}

async fn old_logs_are_pruned_and_young_ones_stay(f: Fixture) {
    let day = 24 * 3_600_000;
    let now = 1_764_000_000_000;
    let old: Vec<_> = (1..=5)
        .map(|age| call_made_at(now - (7 + age) * day))
        .collect();
    let young: Vec<_> = (0..3).map(|age| call_made_at(now - age * day)).collect();
    for id in old.iter().chain(&young) {
        append(&f.logs, vec![chunk(id, 1, 0, "x"), chunk(id, 2, 0, "y")]).await;
    }
    let before = now - 7 * day;
    assert_eq!(f.logs.prune(before, 2).await.expect("pruned"), 2);
    assert_eq!(f.logs.prune(before, 100).await.expect("pruned"), 3);
    assert_eq!(f.logs.prune(before, 100).await.expect("pruned"), 0);
    for id in &old {
        assert_eq!(read(&f.logs, id).await, None);
    }
    for id in &young {
        assert_eq!(read(&f.logs, id).await.as_deref(), Some("xy"));
    }
}

async fn appends_do_not_get_into_each_other(f: Fixture) {
    let calls: Vec<_> = (0..20).map(|_| new_call()).collect();
    // Each round appends to all calls, in another order, from two nodes.
    let elsewhere = f.open_again().await;
    let rounds = (0..6u64).map(|round| {
        let logs = [&f.logs, &elsewhere][round as usize % 2];
        let mut chunks: Vec<_> = calls
            .iter()
            .map(|id| chunk(id, 1, round * 2, format!("{round},")))
            .collect();
        chunks.rotate_left(round as usize * 3);
        append(logs, chunks)
    });
    join_all(rounds).await;
    for id in &calls {
        assert_eq!(read(&f.logs, id).await.as_deref(), Some("0,1,2,3,4,5,"));
    }
}

async fn many_append_at_once_and_each_is_done(f: Fixture) {
    let calls: Vec<_> = (0..100).map(|_| new_call()).collect();
    let appends = calls.iter().map(|id| async {
        for n in 0..10 {
            append(&f.logs, vec![chunk(id, 1, n * 2, format!("{n},"))]).await;
        }
    });
    join_all(appends).await;
    for id in &calls {
        assert_eq!(
            read(&f.logs, id).await.as_deref(),
            Some("0,1,2,3,4,5,6,7,8,9,")
        );
    }
}
