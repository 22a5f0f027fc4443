//! Line and eviction together: who waits gets what can be had, in order, and nothing is evicted in
//! vain.

use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::evictor::Registration;
use crate::evictor::tests::key;
use crate::resources::MIB;
use crate::resources::manual_task::ManualTask;

fn memory(memory_mb: u64) -> Resources {
    Resources {
        memory_bytes: memory_mb * MIB,
        cpu_millis: 0,
    }
}

/// A running container as the agent keeps it: the registration goes after the token.
struct Container {
    token: Option<Token>,
    registration: Registration,
    function: usize,
    /// Unless it was evicted.
    idle: bool,
}

impl Container {
    fn offer(&mut self) {
        self.registration.offer(Instant::now());
        self.idle = true;
    }

    fn claim(&mut self) {
        assert_eq!(
            self.registration.try_claim(),
            self.idle && !self.registration.is_evicted()
        );
        self.idle = false;
    }
}

struct Node {
    pool: Pool,
    evictor: Evictor,
    keys: Vec<SlotKey>,
}

type Reservation = ManualTask<futures_util::future::BoxFuture<'static, Result<Token, Refusal>>>;

impl Node {
    fn new(memory_mb: u64) -> Self {
        Self {
            pool: Pool::new(memory(memory_mb)),
            evictor: Evictor::new(),
            keys: ["0", "1", "2"].map(key).into(),
        }
    }

    fn reserve(&self, function: usize, memory_mb: u64, when_full: WhenFull) -> Reservation {
        let (pool, evictor, key) = (self.pool.clone(), self.evictor.clone(), self.keys[function]);
        ManualTask::new(Box::pin(async move {
            let endless = std::future::pending();
            reserve(&pool, &evictor, &key, memory(memory_mb), when_full, endless).await
        }))
    }

    fn start(&self, function: usize, token: Token) -> Container {
        let registration = self
            .evictor
            .register(self.keys[function], token.resources());
        Container {
            token: Some(token),
            registration,
            function,
            idle: false,
        }
    }

    /// A container that is idle.
    fn idle(&self, function: usize, memory_mb: u64) -> Container {
        let token = self
            .pool
            .try_acquire(memory(memory_mb))
            .expect("there is room");
        let mut container = self.start(function, token);
        container.offer();
        container
    }
}

#[test]
fn an_idle_neighbour_makes_room() {
    let node = Node::new(100);
    let mut neighbour = node.idle(0, 80);
    let mut reservation = node.reserve(1, 50, WhenFull::Wait);
    assert!(reservation.poll().is_none());
    assert!(neighbour.registration.is_evicted());
    neighbour.token = None;
    assert!(reservation.is_woken());
    assert!(matches!(reservation.poll(), Some(Ok(_))));
}

#[test]
fn a_busy_neighbour_makes_room_when_it_becomes_idle() {
    let node = Node::new(100);
    let mut neighbour = node.idle(0, 80);
    neighbour.claim();
    let mut reservation = node.reserve(1, 50, WhenFull::Wait);
    assert!(reservation.poll().is_none());
    neighbour.offer();
    assert!(reservation.is_woken());
    assert!(reservation.poll().is_none());
    assert!(neighbour.registration.is_evicted());
}

/// Nobody is woken who cannot be the next anyway.
#[test]
fn only_the_first_looks_at_containers_that_become_idle() {
    let node = Node::new(100);
    let mut busy = node.idle(0, 60);
    let mut neighbour = node.idle(0, 40);
    busy.claim();
    neighbour.claim();
    let mut first = node.reserve(1, 50, WhenFull::Wait);
    let mut second = node.reserve(2, 50, WhenFull::Wait);
    assert!(first.poll().is_none() && second.poll().is_none());
    neighbour.offer();
    assert!(first.is_woken() && !second.is_woken());
    assert!(first.poll().is_none());
    drop(first);
    assert!(second.is_woken() && second.poll().is_none());
    busy.offer();
    assert!(second.is_woken() && second.poll().is_none());
    assert!(!neighbour.registration.is_evicted() && busy.registration.is_evicted());
}

#[test]
fn nothing_is_evicted_while_it_is_not_enough() {
    let node = Node::new(100);
    let idle = node.idle(0, 30);
    let mut busy = node.idle(0, 70);
    busy.claim();
    let mut reservation = node.reserve(1, 50, WhenFull::Wait);
    assert!(reservation.poll().is_none());
    assert!(!idle.registration.is_evicted());
    drop(busy);
    assert!(matches!(reservation.poll(), Some(Ok(_))));
    assert!(!idle.registration.is_evicted());
}

#[test]
fn busy_containers_are_asked_when_patience_is_over_and_not_before() {
    let node = Node::new(100);
    let mut busy = node.idle(0, 100);
    busy.claim();
    let (impatient, patience) = tokio::sync::oneshot::channel::<()>();
    let (pool, evictor, key) = (node.pool.clone(), node.evictor.clone(), node.keys[1]);
    let mut reservation = ManualTask::new(Box::pin(async move {
        let patience = async { drop(patience.await) };
        reserve(&pool, &evictor, &key, memory(50), WhenFull::Wait, patience).await
    }));
    assert!(reservation.poll().is_none());
    assert!(!busy.registration.yields());
    impatient.send(()).expect("it waits");
    assert!(reservation.is_woken() && reservation.poll().is_none());
    assert!(busy.registration.yields());
    busy.token = None;
    assert!(matches!(reservation.poll(), Some(Ok(_))));
}

#[test]
fn what_is_free_is_not_evicted_for() {
    let node = Node::new(100);
    let (old, new) = (node.idle(0, 40), node.idle(0, 40));
    let mut reservation = node.reserve(1, 60, WhenFull::Wait);
    assert!(reservation.poll().is_none());
    assert!(old.registration.is_evicted() && !new.registration.is_evicted());
}

/// Each in the line evicts for itself, beyond what those before it have evicted.
#[test]
fn a_line_evicts_side_by_side_and_no_more_than_it_needs() {
    let node = Node::new(100);
    let mut idle: Vec<_> = (0..5).map(|_| node.idle(0, 20)).collect();
    let mut first = node.reserve(1, 20, WhenFull::Wait);
    let mut second = node.reserve(2, 40, WhenFull::Refuse);
    assert!(first.poll().is_none() && second.poll().is_none());
    let evicted = |container: &&Container| container.registration.is_evicted();
    assert_eq!(idle.iter().filter(evicted).count(), 3);
    drop(idle.remove(0));
    assert!(matches!(first.poll(), Some(Ok(_))));
    idle.truncate(2);
    assert!(
        idle.iter()
            .all(|container| container.registration.is_evicted())
    );
    idle.clear();
    assert!(matches!(second.poll(), Some(Ok(_))));
}

#[test]
fn who_gives_up_leaves_no_trace_in_the_line() {
    let node = Node::new(100);
    let busy = node.start(0, node.pool.try_acquire(memory(60)).expect("free"));
    let mut big = node.reserve(1, 100, WhenFull::Wait);
    let mut small = node.reserve(2, 40, WhenFull::Wait);
    assert!(big.poll().is_none() && small.poll().is_none());
    drop(big);
    assert!(matches!(small.poll(), Some(Ok(_))));
    drop((busy, small));
    assert_eq!(node.pool.utilisation().used, Resources::default());
}

#[test]
fn an_impossible_request_fails_at_once() {
    let node = Node::new(100);
    let _idle = node.idle(0, 100);
    let refusal = node.reserve(1, 101, WhenFull::Wait).poll();
    let error = ApiError::from(refusal.expect("at once").expect_err("impossible"));
    assert_eq!(error.status(), 400);
    assert_eq!(error.message(), "Requested CPU/Memory cannot be allocated");
}

/// `NBIOResourceTracker`: 280 MB, 20 calls at a time of functions of 50 MB.
#[test]
fn a_node_that_does_not_wait_takes_what_fits_and_refuses_the_rest() {
    let node = Node::new(280);
    let reserved: Vec<_> = (0..20)
        .map(|_| {
            node.reserve(0, 50, WhenFull::Refuse)
                .poll()
                .expect("at once")
        })
        .collect();
    assert_eq!(reserved.iter().filter(|token| token.is_ok()).count(), 5);
    for refusal in reserved.into_iter().filter_map(Result::err) {
        assert_eq!(refusal, Refusal::Full);
        assert_eq!(ApiError::from(refusal).status(), 503);
    }
}

#[test]
fn a_node_that_does_not_wait_still_evicts() {
    let node = Node::new(100);
    let neighbour = node.idle(0, 100);
    assert!(matches!(
        node.reserve(0, 50, WhenFull::Refuse).poll(),
        Some(Err(Refusal::Full))
    ));
    let mut other = node.reserve(1, 50, WhenFull::Refuse);
    assert!(other.poll().is_none());
    drop(neighbour);
    assert!(matches!(other.poll(), Some(Ok(_))));
}

#[derive(Debug, Clone)]
enum Event {
    Reserve {
        function: usize,
        memory_mb: u64,
        when_full: WhenFull,
    },
    GiveUp(Index),
    Offer(Index),
    Claim(Index),
    /// The first half of a container's end, if it is evicted or busy.
    GiveBack(Index),
    /// The second half.
    Forget(Index),
    /// Lets one task run that was woken.
    Run(Index),
    /// Lets all of them run, until none is woken.
    Settle,
}

fn event() -> impl Strategy<Value = Event> {
    let when_full = prop_oneof![3 => Just(WhenFull::Wait), 1 => Just(WhenFull::Refuse)];
    let reserve = (0..3usize, 1..=10u64, when_full);
    prop_oneof![
        4 => reserve.prop_map(|(function, memory_mb, when_full)| Event::Reserve { function, memory_mb, when_full }),
        1 => any::<Index>().prop_map(Event::GiveUp),
        3 => any::<Index>().prop_map(Event::Offer),
        2 => any::<Index>().prop_map(Event::Claim),
        2 => any::<Index>().prop_map(Event::GiveBack),
        2 => any::<Index>().prop_map(Event::Forget),
        3 => any::<Index>().prop_map(Event::Run),
        3 => Just(Event::Settle),
    ]
}

struct Pending {
    task: Reservation,
    function: usize,
    need: Resources,
    when_full: WhenFull,
}

#[derive(Default)]
struct World {
    /// In the order of the line.
    pending: Vec<Pending>,
    containers: Vec<Container>,
}

impl World {
    fn run(&mut self, node: &Node, which: usize) {
        if !self.pending[which].task.is_woken() {
            return;
        }
        match self.pending[which].task.poll() {
            Some(Ok(token)) => {
                let served = self.pending.remove(which);
                self.containers.push(node.start(served.function, token));
            }
            Some(Err(refusal)) => {
                let refused = self.pending.remove(which);
                assert_eq!(
                    (refusal, refused.when_full),
                    (Refusal::Full, WhenFull::Refuse)
                );
            }
            None => {}
        }
    }

    /// Does what an executor does, and looks whether all is well when it has nothing to do.
    fn settle(&mut self, node: &Node) {
        while let Some(woken) = self
            .pending
            .iter()
            .position(|pending| pending.task.is_woken())
        {
            self.run(node, woken);
        }
        self.check(node);
    }

    fn apply(&mut self, node: &Node, event: Event) {
        let container = |containers: &[Container], which: Index| {
            (!containers.is_empty()).then(|| which.index(containers.len()))
        };
        match event {
            Event::Reserve {
                function,
                memory_mb,
                when_full,
            } => {
                let mut task = node.reserve(function, memory_mb, when_full);
                // The first poll takes the place in the line.
                match task.poll() {
                    Some(Ok(token)) => self.containers.push(node.start(function, token)),
                    Some(Err(refusal)) => {
                        assert_eq!((refusal, when_full), (Refusal::Full, WhenFull::Refuse))
                    }
                    None => self.pending.push(Pending {
                        task,
                        function,
                        need: memory(memory_mb),
                        when_full,
                    }),
                }
            }
            Event::GiveUp(which) => {
                if !self.pending.is_empty() {
                    self.pending.remove(which.index(self.pending.len()));
                }
            }
            Event::Run(which) => {
                if !self.pending.is_empty() {
                    self.run(node, which.index(self.pending.len()));
                }
            }
            Event::Settle => self.settle(node),
            Event::Offer(which) => {
                if let Some(which) = container(&self.containers, which)
                    && self.containers[which].token.is_some()
                {
                    self.containers[which].offer();
                }
            }
            Event::Claim(which) => {
                if let Some(which) = container(&self.containers, which) {
                    self.containers[which].claim();
                }
            }
            Event::GiveBack(which) => {
                if let Some(which) = container(&self.containers, which) {
                    let ending = &mut self.containers[which];
                    // An idle container takes itself first, and is not its own if it was evicted.
                    ending.claim();
                    ending.token = None;
                }
            }
            Event::Forget(which) => {
                if let Some(which) = container(&self.containers, which)
                    && self.containers[which].token.is_none()
                {
                    self.containers.remove(which);
                }
            }
        }
    }

    /// What must hold when every task that was woken has run.
    fn check(&self, node: &Node) {
        let held = self
            .containers
            .iter()
            .filter_map(|container| container.token.as_ref())
            .fold(Resources::default(), |sum, token| {
                sum.saturating_add(token.resources())
            });
        let utilisation = node.pool.utilisation();
        assert_eq!(utilisation.used, held, "a token was lost");
        assert!(held.fits_in(node.pool.total()));

        let mut needed = Resources::default();
        for (place, pending) in self.pending.iter().enumerate() {
            needed = needed.saturating_add(pending.need);
            let missing = needed.saturating_sub(utilisation.available);
            assert!(!missing.is_zero(), "who fits was not served");
            let mut going = Resources::default();
            let mut idle = Resources::default();
            for container in &self.containers {
                let Some(token) = &container.token else {
                    continue;
                };
                if container.registration.is_evicted() {
                    going = going.saturating_add(token.resources());
                } else if container.function != pending.function && container.idle {
                    idle = idle.saturating_add(token.resources());
                }
            }
            let ending = self
                .containers
                .iter()
                .any(|container| container.token.is_none());
            let covered = missing.fits_in(going);
            let possible = missing.fits_in(going.saturating_add(idle));
            // While a container has given back its token and is still registered, what it gave is
            // counted twice; its end makes everybody look again. And who is not the first may have
            // looked before that container became idle.
            assert!(
                covered || !possible || ending || place > 0,
                "room could have been made and was not"
            );
            assert!(
                covered || ending || pending.when_full == WhenFull::Wait,
                "waits without hope"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_happens_room_is_made_and_given_in_order(events in vec(event(), 1..80)) {
        let node = Node::new(16);
        let mut world = World::default();
        for event in events {
            world.apply(&node, event);
        }
        world.settle(&node);
        // The containers end one after the other: everybody who waits is served in the end.
        while let Some(mut container) = world.containers.pop() {
            container.claim();
            container.token = None;
            drop(container);
            world.settle(&node);
        }
        prop_assert!(world.pending.is_empty(), "somebody waits for an empty node");
        prop_assert_eq!(node.pool.utilisation().used, Resources::default());
    }
}
