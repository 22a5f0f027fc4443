//! Calls for which there is no room at first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use domain::ErrorCode;
use nodekit::body;
use proto::runner_extension::{FunctionState, StateUpdate};
use tokio::time::Instant;

use crate::balancer::{Balancer, Options, call, spec, until};
use crate::peer::{Net, Peer, handed};

/// A runner that has room when it is told to.
fn with_room(net: &Net, address: &str, room: &Arc<AtomicBool>) -> Peer {
    let room = Arc::clone(room);
    Peer::start(net, address, move |exchange| {
        match room.load(Ordering::SeqCst) {
            true => Box::pin(exchange.echo()),
            false => Box::pin(exchange.refuse()),
        }
    })
}

fn idle(count: u32) -> StateUpdate {
    StateUpdate {
        complete: true,
        functions: vec![FunctionState {
            slot_key: spec().slot_key().as_bytes().to_vec().into(),
            idle: count,
            ..FunctionState::default()
        }],
        // Longer than any of these tests.
        heartbeat_ms: 60_000,
        ..StateUpdate::default()
    }
}

#[tokio::test(start_paused = true)]
async fn past_its_deadline_a_call_is_turned_away() {
    let net = Net::default();
    let peer = with_room(&net, "a:1", &Arc::default());
    let balancer = Balancer::new(&net, &["a:1"]);
    let began = Instant::now();
    let error = balancer.echo(b"x").await.expect_err("busy");
    assert_eq!((error.status(), error.code()), (503, ErrorCode::ServerBusy));
    assert_eq!(began.elapsed().as_secs(), 10);
    balancer.assert_metric("fn_lb_placer_timeout_count 1");
    assert!(peer.ledger().len() < 50, "{} attempts", peer.ledger().len());
    // No call has ended lately: nothing better than the usual is known.
    assert_eq!(error.retry_after_seconds(), Some(15));
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_is_told_when_there_may_be_room() {
    let net = Net::default();
    let room = Arc::new(AtomicBool::new(true));
    with_room(&net, "a:1", &room);
    let balancer = Balancer::new(&net, &["a:1"]);
    for _ in 0..20 {
        balancer.echo(b"x").await.expect("an answer");
    }
    room.store(false, Ordering::SeqCst);
    let mut impatient = call(body::empty());
    impatient.wait_deadline = Some(impatient.arrived);
    let error = balancer.run(impatient).await.expect_err("busy");
    assert_eq!(error.retry_after_seconds(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn without_runners_a_call_waits_for_the_first() {
    let net = Net::default();
    let balancer = Balancer::new(&net, &[]);
    let error = balancer.echo(b"x").await.expect_err("busy");
    assert_eq!(error.code(), ErrorCode::ServerBusy);
    assert!(!balancer.has_metric("fn_lb_placer_rp_empty_count 0"));
}

/// The runner's word, and not a timer, brings the call there.
#[tokio::test(start_paused = true)]
async fn a_waiting_call_goes_when_a_runner_tells_of_room() {
    let net = Net::default();
    let room = Arc::new(AtomicBool::new(false));
    let peer = with_room(&net, "a:1", &room);
    peer.tell(idle(0));
    let balancer = Balancer::new(&net, &["a:1"]);
    let telling = async {
        // Between two looks of the call itself, which are a second apart by then.
        tokio::time::sleep(Duration::from_millis(8050)).await;
        let attempts = peer.ledger().len();
        room.store(true, Ordering::SeqCst);
        let told = Instant::now();
        peer.tell(idle(1));
        (told, attempts)
    };
    let running = async {
        balancer.echo(b"x").await.expect("an answer");
        Instant::now()
    };
    let ((told, attempts), ended) = tokio::join!(telling, running);
    assert!(
        ended - told < Duration::from_millis(5),
        "{:?}",
        ended - told
    );
    assert_eq!(peer.ledger().len(), attempts + 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_goes_when_another_ends() {
    let net = Net::default();
    let (hand, mut exchanges) = handed();
    let hand = Arc::new(hand);
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    Peer::start(&net, "a:1", move |exchange| {
        let (hand, count) = (Arc::clone(&hand), Arc::clone(&count));
        Box::pin(async move {
            // One at a time.
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => hand(exchange).await,
                _ => {
                    count.fetch_sub(1, Ordering::SeqCst);
                    exchange.refuse().await;
                }
            }
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let run = || {
        let placed = balancer.placed.clone();
        tokio::spawn(async move { lb::Runner::run(&*placed, call(body::full("x"))).await })
    };
    let first = run();
    let exchange = exchanges.recv().await.expect("a call");
    let second = run();
    tokio::time::sleep(Duration::from_millis(5070)).await;
    running.store(0, Ordering::SeqCst);
    let freed = Instant::now();
    exchange.echo().await;
    first.await.expect("no panic").expect("an answer");
    let exchange = exchanges.recv().await.expect("the next call");
    assert!(
        freed.elapsed() < Duration::from_millis(5),
        "{:?}",
        freed.elapsed()
    );
    exchange.echo().await;
    second.await.expect("no panic").expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_are_turned_away_at_once() {
    let net = Net::default();
    let room = Arc::new(AtomicBool::new(false));
    with_room(&net, "a:1", &room);
    let mut options = Options::at(&["a:1"]);
    options.config.max_waiting_calls = 2;
    let balancer = Balancer::with(Arc::new(net), options);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let placed = balancer.placed.clone();
            tokio::spawn(async move { lb::Runner::run(&*placed, call(body::empty())).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    let error = balancer.echo(b"x").await.expect_err("busy");
    assert_eq!(error.code(), ErrorCode::ServerBusy);
    assert!(
        began.elapsed() < Duration::from_millis(50),
        "{:?}",
        began.elapsed()
    );
    balancer.assert_metric("fn_lb_placer_shed_count 1");
    until(|| balancer.has_metric("fn_lb_waiting 2")).await;
    room.store(true, Ordering::SeqCst);
    for waiting in waiting {
        waiting.await.expect("no panic").expect("an answer");
    }
}

/// Of a crowd that waits, a free place wakes a few and not all.
#[tokio::test(start_paused = true)]
async fn a_crowd_does_not_storm_the_runners() {
    let net = Net::default();
    let room = Arc::new(AtomicBool::new(false));
    let peer = with_room(&net, "a:1", &room);
    let mut options = Options::at(&["a:1"]);
    options.placer = lb::placement::PlacerKind::Ewma;
    let balancer = Balancer::with(Arc::new(net), options);
    let waiting: Vec<_> = (0..500)
        .map(|_| {
            let placed = balancer.placed.clone();
            tokio::spawn(async move { lb::Runner::run(&*placed, call(body::empty())).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = peer.ledger().len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let attempts = peer.ledger().len() - before;
    assert!(
        attempts <= 600,
        "{attempts} attempts a second for 500 that wait"
    );
    room.store(true, Ordering::SeqCst);
    for waiting in waiting {
        waiting.await.expect("no panic").expect("an answer");
    }
}
