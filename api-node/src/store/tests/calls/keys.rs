//! Idempotency keys of clients that wait, beside those of durable calls.

use std::time::Duration;

use bytes::Bytes;
use domain::ErrorCode;
use hybrid_client::{BeginKeyed, Keyed};

use super::super::{Fixture, contract, refused};
use super::{LEASE, Target, accept_one, answer, answered, claim_one, finish_one, leased, new_id};

contract!(
    a_key_is_held_until_there_is_an_answer,
    a_key_that_is_given_up_is_free,
    a_key_whose_client_is_gone_is_taken_over,
    a_durable_call_and_a_client_that_waits_share_keys,
);

fn begin(target: &Target, key: &str, hold: Duration) -> BeginKeyed {
    BeginKeyed {
        fn_id: target.func.id.clone(),
        key: key.to_owned(),
        fingerprint: Bytes::from_static(b"print"),
        call_id: new_id(),
        hold,
    }
}

async fn a_key_is_held_until_there_is_an_answer(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let first = begin(&target, "k", LEASE);
    assert_eq!(
        f.store.begin_keyed(first.clone()).await.expect("an answer"),
        Keyed::Fresh
    );
    assert_eq!(
        f.store.begin_keyed(first.clone()).await.expect("the same"),
        Keyed::Fresh
    );
    let second = begin(&target, "k", LEASE);
    refused(
        f.store.begin_keyed(second.clone()).await,
        ErrorCode::IdempotencyKeyInUse,
    );
    let mut different = begin(&target, "k", LEASE);
    different.fingerprint = Bytes::from_static(b"another");
    refused(
        f.store.begin_keyed(different.clone()).await,
        ErrorCode::IdempotencyKeyReused,
    );
    let end = async |call_id, result| {
        let ended = f.store.end_keyed(&first.fn_id, "k", call_id, result).await;
        ended.expect("noted");
    };
    end(&second.call_id, Some(answer(500))).await;
    end(&second.call_id, None).await;
    refused(
        f.store.begin_keyed(second.clone()).await,
        ErrorCode::IdempotencyKeyInUse,
    );
    end(&first.call_id, Some(answer(201))).await;
    let made = Keyed::Made {
        call_id: first.call_id.clone(),
        result: answer(201),
    };
    assert_eq!(
        f.store
            .begin_keyed(second.clone())
            .await
            .expect("an answer"),
        made
    );
    refused(
        f.store.begin_keyed(different).await,
        ErrorCode::IdempotencyKeyReused,
    );
    // The answer stays, whatever is said later.
    end(&first.call_id, Some(answer(500))).await;
    end(&first.call_id, None).await;
    let third = begin(&target, "k", LEASE);
    assert_eq!(f.store.begin_keyed(third).await.expect("an answer"), made);
}

async fn a_key_that_is_given_up_is_free(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let first = begin(&target, "k", LEASE);
    f.store.begin_keyed(first.clone()).await.expect("an answer");
    let ended = f.store.end_keyed(&first.fn_id, "k", &first.call_id, None);
    ended.await.expect("noted");
    let second = begin(&target, "k", LEASE);
    assert_eq!(
        f.store.begin_keyed(second).await.expect("an answer"),
        Keyed::Fresh
    );
}

async fn a_key_whose_client_is_gone_is_taken_over(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let gone = begin(&target, "k", Duration::ZERO);
    f.store.begin_keyed(gone.clone()).await.expect("an answer");
    let second = begin(&target, "k", Duration::ZERO);
    assert_eq!(
        f.store
            .begin_keyed(second.clone())
            .await
            .expect("an answer"),
        Keyed::Fresh
    );
    // The first one comes back too late.
    let late = f
        .store
        .end_keyed(&gone.fn_id, "k", &gone.call_id, Some(answer(200)));
    late.await.expect("noted");
    let call = target.keyed("k");
    let committed = accept_one(&f, call.clone()).await;
    assert_eq!(
        (committed.accepted.id, committed.accepted.replayed),
        (call.call.id.clone(), false)
    );
    let late = f
        .store
        .end_keyed(&gone.fn_id, "k", &second.call_id, Some(answer(200)));
    late.await.expect("noted");
    assert_eq!(
        accept_one(&f, target.keyed("k")).await.accepted.id,
        call.call.id
    );
}

async fn a_durable_call_and_a_client_that_waits_share_keys(f: Fixture) {
    let target = Target::new(&f, "a").await;
    let waiting = begin(&target, "k", LEASE);
    f.store
        .begin_keyed(waiting.clone())
        .await
        .expect("an answer");
    let accept = async || {
        let mut answers = f
            .store
            .accept(vec![target.keyed("k")])
            .await
            .expect("an answer");
        answers.remove(0)
    };
    refused(accept().await, ErrorCode::IdempotencyKeyInUse);
    let ended = f
        .store
        .end_keyed(&waiting.fn_id, "k", &waiting.call_id, Some(answer(200)));
    ended.await.expect("noted");
    let accepted = accept().await.expect("known").accepted;
    assert_eq!((accepted.id, accepted.replayed), (waiting.call_id, true));
    // The other way round.
    let durable = target.keyed("d");
    accept_one(&f, durable.clone()).await;
    let waiting = begin(&target, "d", LEASE);
    refused(
        f.store.begin_keyed(waiting.clone()).await,
        ErrorCode::IdempotencyKeyInUse,
    );
    let lease = leased(claim_one(&f, &durable.call.id).await).lease;
    finish_one(&f, &lease, answered(202)).await;
    let made = Keyed::Made {
        call_id: durable.call.id,
        result: answer(202),
    };
    assert_eq!(f.store.begin_keyed(waiting).await.expect("an answer"), made);
}
