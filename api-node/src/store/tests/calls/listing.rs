//! Lists of calls: newest first, with every filter and all of them together; sync calls among them.

use std::collections::BTreeMap;

use domain::call::{CallOptions, Fault};
use domain::{CallKind, CallRecord, CallState, DeadReason, PageRequest, Timestamp};

use super::super::super::CallFilter;
use super::super::{Fixture, all_pages, contract};
use super::{Target, answered, attempts, call, failed, finish_one, new_id};

contract!(
    every_filter_finds_what_it_names,
    a_page_that_took_long_says_where_it_ended,
    a_time_is_found_whatever_clocks_show,
    a_sync_call_is_recorded_once,
    waiting_running_and_dead_calls_are_counted,
);

/// Calls of every kind and state of two functions, the newest first.
async fn fill(f: &Fixture, targets: &[Target]) -> Vec<CallRecord> {
    let mut ids = Vec::new();
    for target in targets {
        let tagged = |value: &str, options: CallOptions| CallOptions {
            tags: [("k".to_owned(), value.to_owned())].into(),
            ..options
        };
        let delayed = CallOptions {
            delay_seconds: Some(60),
            ..CallOptions::default()
        };
        ids.push(target.accept(f, delayed).await);
        ids.push(target.accept(f, tagged("v", attempts(1))).await);
        ids.push(target.running(f, tagged("w", attempts(1))).await.call_id);
        for outcome in [
            answered(200),
            failed(Fault::Function),
            failed(Fault::Timeout),
        ] {
            let lease = target.running(f, tagged("v", attempts(1))).await;
            finish_one(f, &lease, outcome).await;
            ids.push(lease.call_id);
        }
        for fault in [Fault::Permanent, Fault::Function] {
            for _ in 0..2 {
                let lease = target.running(f, CallOptions::default()).await;
                finish_one(f, &lease, failed(fault)).await;
                ids.push(lease.call_id);
            }
        }
        let cancelled = target.accept(f, CallOptions::default()).await;
        f.store.cancel(&cancelled).await.expect("cancelled");
        ids.push(cancelled);
        let mut given = target.acceptance(CallOptions::default());
        given.call.path = format!("/{}", "long".repeat(200));
        ids.push(super::accept_one(f, given.clone()).await.accepted.id);
        given.call.id = new_id();
        given.call.path += "er";
        ids.push(super::accept_one(f, given).await.accepted.id);
        for status in [CallState::Success, CallState::Error] {
            let record = sync_record(target, status);
            f.store
                .record(vec![record.clone()])
                .await
                .expect("recorded");
            ids.push(record.id);
        }
    }
    ids.reverse();
    let mut all = Vec::new();
    for id in ids {
        all.push(call(f, &id).await);
    }
    assert!(all.is_sorted_by(|a, b| a.id > b.id));
    all
}

fn sync_record(target: &Target, status: CallState) -> CallRecord {
    let id = new_id();
    let now = super::super::super::wall_clock()();
    CallRecord {
        id,
        status,
        kind: CallKind::Sync,
        app_id: target.func.app_id.clone(),
        fn_id: target.func.id.clone(),
        trigger_id: Some("trigger".into()),
        path: "/sync".to_owned(),
        method: "GET".to_owned(),
        url: "http://x/sync".to_owned(),
        image: "image:1".to_owned(),
        priority: 0,
        tags: [("k".to_owned(), "v".to_owned())].into(),
        attempts: 0,
        max_attempts: 1,
        epoch: 0,
        reason: None,
        error: Some("what\0".replace('\0', "!")),
        origin_id: None,
        callback_url: None,
        runner_id: None,
        result_status: Some(200),
        created_at: now,
        due_at: Timestamp::UNSET,
        expires_at: Timestamp::UNSET,
        started_at: now,
        completed_at: now,
    }
}

/// What a list with this filter shows, by the words of the filter.
fn shown(filter: &CallFilter, call: &CallRecord) -> bool {
    let is = |wanted: bool| wanted;
    is(filter.app_id.as_ref().is_none_or(|app| call.app_id == *app))
        && filter.fn_id.as_ref().is_none_or(|func| call.fn_id == *func)
        && (filter.states.is_empty() || filter.states.contains(&call.status))
        && filter
            .reason
            .is_none_or(|reason| call.reason == Some(reason))
        && filter.kind.is_none_or(|kind| call.kind == kind)
        && filter.path.as_ref().is_none_or(|path| call.path == *path)
        && filter.from.is_none_or(|from| call.created_at > from)
        && filter.to.is_none_or(|to| call.created_at < to)
        && filter
            .tag
            .as_ref()
            .is_none_or(|(name, value)| call.tags.get(name) == Some(value))
}

async fn every_filter_finds_what_it_names(f: Fixture) {
    let targets = [Target::new(&f, "a").await, Target::new(&f, "b").await];
    let all = fill(&f, &targets).await;
    let middle = all[all.len() / 2].created_at;
    let long = all.iter().find(|call| call.path.ends_with("longer"));
    let changes: [fn(&mut CallFilter, &Target, &str, Timestamp); 11] = [
        |filter, target, _, _| filter.app_id = Some(target.func.app_id.clone()),
        |filter, target, _, _| filter.fn_id = Some(target.func.id.clone()),
        |filter, _, _, _| filter.states = vec![CallState::Success, CallState::Dead],
        |filter, _, _, _| filter.states = vec![CallState::Running],
        |filter, _, _, _| filter.reason = Some(DeadReason::Permanent),
        |filter, _, _, _| filter.kind = Some(CallKind::Sync),
        |filter, _, _, _| filter.kind = Some(CallKind::Async),
        |filter, _, path, _| filter.path = Some(path.to_owned()),
        |filter, _, _, middle| filter.from = Some(middle),
        |filter, _, _, middle| filter.to = Some(middle),
        |filter, _, _, _| filter.tag = Some(("k".to_owned(), "v".to_owned())),
    ];
    let long = &long.expect("there is one").path;
    // None, each one, and each pair of them.
    let mut found_something = 0;
    for one in 0..=changes.len() {
        for two in one..=changes.len() {
            let mut filter = CallFilter::default();
            for which in [one, two] {
                if let Some(change) = changes.get(which) {
                    change(&mut filter, &targets[0], long, middle);
                }
            }
            let expected: Vec<_> = all.iter().filter(|call| shown(&filter, call)).collect();
            let page = PageRequest {
                after: None,
                per_page: 100,
            };
            let got = f.store.calls(&filter, &page).await.expect("a page");
            assert_eq!(got.items.iter().collect::<Vec<_>>(), expected, "{filter:?}");
            found_something += usize::from(!expected.is_empty());
        }
    }
    assert!(found_something > 50, "{found_something}");
    for filter in [
        CallFilter::default(),
        CallFilter {
            fn_id: Some(targets[1].func.id.clone()),
            ..CallFilter::default()
        },
        CallFilter {
            tag: Some(("k".to_owned(), "v".to_owned())),
            ..CallFilter::default()
        },
    ] {
        let expected: Vec<_> = all.iter().filter(|call| shown(&filter, call)).collect();
        let pages = all_pages!(3, |page| f.store.calls(&filter, &page));
        assert_eq!(pages.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

/// Of two filters that find many calls each, and one together.
async fn a_page_that_took_long_says_where_it_ended(f: Fixture) {
    let targets = [Target::new(&f, "a").await, Target::new(&f, "b").await];
    let both = sync_record(&targets[0], CallState::Success);
    let mut calls = vec![both.clone()];
    for _ in 0..300 {
        let untagged = CallRecord {
            tags: BTreeMap::new(),
            ..sync_record(&targets[0], CallState::Success)
        };
        calls.extend([untagged, sync_record(&targets[1], CallState::Success)]);
    }
    f.store.record(calls).await.expect("recorded");
    let filter = CallFilter {
        fn_id: Some(targets[0].func.id.clone()),
        tag: Some(("k".to_owned(), "v".to_owned())),
        ..CallFilter::default()
    };
    let first = super::super::page(None, 30);
    let first = f.store.calls(&filter, &first).await.expect("a page");
    assert_eq!(first.items, []);
    let next = super::super::page(first.next_cursor.as_deref(), 30);
    let last = f.store.calls(&filter, &next).await.expect("a page");
    assert_eq!((last.items, last.next_cursor), (vec![both], None));
    let of_another_app = CallFilter {
        app_id: Some(targets[1].func.app_id.clone()),
        tag: None,
        ..filter
    };
    let page = super::super::page(None, 30);
    let none = f.store.calls(&of_another_app, &page).await.expect("a page");
    assert_eq!((none.items, none.next_cursor), (Vec::new(), None));
}

/// The clock of the node where the call came in is an hour off.
async fn a_time_is_found_whatever_clocks_show(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let hour = 3600 * 1000;
    for off in [-hour, 0, hour] {
        let mut record = sync_record(&target, CallState::Success);
        record.created_at = Timestamp::from_unix_millis(record.created_at.unix_millis() + off);
        let id = record.id.clone();
        f.store.record(vec![record]).await.expect("recorded");
        let kept = call(&f, &id).await.created_at.unix_millis();
        let filter = CallFilter {
            from: Some(Timestamp::from_unix_millis(kept - 1)),
            to: Some(Timestamp::from_unix_millis(kept + 1)),
            ..CallFilter::default()
        };
        let page = super::super::page(None, 30);
        let found = f.store.calls(&filter, &page).await.expect("a page").items;
        assert!(found.iter().any(|call| call.id == id), "{off}: {found:?}");
    }
}

async fn a_sync_call_is_recorded_once(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let record = sync_record(&target, CallState::Success);
    let other = CallRecord {
        status: CallState::Error,
        ..record.clone()
    };
    let mut unfinished = sync_record(&target, CallState::Running);
    unfinished.completed_at = Timestamp::UNSET;
    let unfinished_id = unfinished.id.clone();
    let batch = vec![record.clone(), other.clone(), unfinished];
    f.store.record(batch).await.expect("recorded");
    f.store.record(vec![other]).await.expect("known");
    assert_eq!(call(&f, &record.id).await, record);
    // What is not over is no record, and would never be over.
    assert!(f.store.call(&unfinished_id).await.is_err());
}

async fn waiting_running_and_dead_calls_are_counted(f: Fixture) {
    let targets = [Target::new(&f, "a").await];
    fill(&f, &targets).await;
    let counts = f.store.count_calls().await.expect("counts");
    let expected = BTreeMap::from([
        (CallState::Delayed, 1),
        (CallState::Queued, 3 + 2),
        (CallState::Running, 1),
        (CallState::Dead, 2),
    ]);
    assert_eq!(counts, expected);
}
