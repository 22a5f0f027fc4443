//! The rules of the pool: the original's table (spec/11 11.5), and any order of events against a
//! model.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::resources::MIB;
use crate::resources::manual_task::ManualTask;

fn amount(memory_mb: u64, cpu_millis: u64) -> Resources {
    Resources {
        memory_bytes: memory_mb * MIB,
        cpu_millis,
    }
}

fn wait(pool: &Pool, need: Resources) -> ManualTask<Waiter> {
    ManualTask::new(pool.acquire(need).expect("possible"))
}

/// `ResourceGetSimple` and `ResourceGetSimpleNB`.
#[test]
fn tokens_are_denied_when_full_and_returned_on_drop() {
    let pool = Pool::new(amount(4096, 2000));
    let need = amount(1024, 500);
    let mut tokens: Vec<_> = (0..4)
        .map(|_| pool.try_acquire(need).expect("there is room"))
        .collect();
    let refused = pool.try_acquire(need).expect_err("full");
    assert_eq!(refused, Shortage { missing: need });

    let mut waiter = wait(&pool, need);
    assert!(waiter.poll().is_none());
    assert!(!waiter.is_woken());

    tokens.pop();
    assert!(waiter.is_woken());
    let token = waiter.poll().expect("given back");
    assert_eq!(token.resources(), need);
    drop((token, tokens));
    assert_eq!(pool.utilisation().available, pool.total());
}

#[test]
fn memory_and_cpu_run_out_on_their_own() {
    let pool = Pool::new(amount(100, 1000));
    let _memory = pool.try_acquire(amount(100, 0)).expect("free");
    assert!(pool.try_acquire(amount(0, 1000)).is_ok());
    let shortage = pool.try_acquire(amount(30, 1200)).expect_err("no memory");
    assert_eq!(shortage.missing, amount(30, 200));
}

#[test]
fn what_the_node_does_not_have_is_impossible() {
    let pool = Pool::new(amount(100, 1000));
    assert!(pool.possible(amount(100, 1000)));
    for need in [amount(101, 0), amount(0, 1001)] {
        assert!(!pool.possible(need));
        assert_eq!(pool.acquire(need).expect_err("too much"), Impossible);
        assert!(pool.try_acquire(need).is_err());
    }
    assert!(
        pool.try_acquire(amount(100, 1000)).is_ok(),
        "nothing leaked"
    );
}

#[test]
fn a_need_of_zero_passes_everybody() {
    let pool = Pool::new(amount(100, 1000));
    let _all = pool.try_acquire(amount(100, 1000)).expect("free");
    let mut first = wait(&pool, amount(1, 0));
    assert!(first.poll().is_none());
    assert!(pool.try_acquire(Resources::default()).is_ok());
    assert!(wait(&pool, Resources::default()).poll().is_some());
    let empty = Pool::new(Resources::default());
    assert!(empty.try_acquire(Resources::default()).is_ok());
}

#[test]
fn small_requests_do_not_starve_a_big_one() {
    let pool = Pool::new(amount(100, 0));
    let held = pool.try_acquire(amount(50, 0)).expect("free");
    let mut big = wait(&pool, amount(100, 0));
    assert!(big.poll().is_none());
    assert!(pool.try_acquire(amount(10, 0)).is_err(), "overtook the big");
    let mut small = wait(&pool, amount(10, 0));
    assert!(small.poll().is_none(), "overtook the big one in the line");
    drop(held);
    let token = big.poll().expect("its turn");
    assert!(small.poll().is_none());
    drop(token);
    assert!(small.poll().is_some());
}

#[test]
fn a_front_that_leaves_lets_the_next_ones_in() {
    let pool = Pool::new(amount(100, 0));
    let held = pool.try_acquire(amount(50, 0)).expect("free");
    let mut front = wait(&pool, amount(100, 0));
    let mut second = wait(&pool, amount(20, 0));
    let mut third = wait(&pool, amount(30, 0));
    assert!(front.poll().is_none() && second.poll().is_none() && third.poll().is_none());
    drop(front);
    assert!(second.is_woken() && third.is_woken());
    let tokens = (second.poll().expect("fits"), third.poll().expect("fits"));
    drop((held, tokens));
    assert_eq!(pool.utilisation().used, Resources::default());
}

#[test]
fn a_token_that_its_waiter_never_took_goes_to_the_next() {
    let pool = Pool::new(amount(100, 0));
    let held = pool.try_acquire(amount(100, 0)).expect("free");
    let mut first = wait(&pool, amount(100, 0));
    let mut second = wait(&pool, amount(100, 0));
    assert!(first.poll().is_none() && second.poll().is_none());
    drop(held);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert!(second.poll().is_some());
}

#[test]
fn each_waiter_knows_what_is_missing_up_to_its_place() {
    let pool = Pool::new(amount(100, 1000));
    let held = pool.try_acquire(amount(60, 500)).expect("free");
    let front = wait(&pool, amount(70, 100));
    let behind = wait(&pool, amount(10, 900));
    assert_eq!(front.get().missing(), Some(amount(30, 0)));
    assert_eq!(behind.get().missing(), Some(amount(40, 500)));
    drop(front);
    assert_eq!(behind.get().missing(), Some(amount(0, 400)));
    drop(held);
    assert_eq!(behind.get().missing(), None);
}

/// Threads that take, wait, give up and give back: at no time more is out than there is, and in
/// the end all of it is back.
#[test]
fn threads_share_the_pool() {
    let pool = Pool::new(amount(10, 10));
    let out = Arc::new(Mutex::new(0));
    let workers: Vec<_> = (1..=4)
        .map(|size| {
            let (pool, out) = (pool.clone(), out.clone());
            std::thread::spawn(move || {
                for round in 0..2_000 {
                    let mut task = wait(&pool, amount(size, size));
                    if round % 3 == 0 {
                        continue;
                    }
                    let token = loop {
                        match task.poll() {
                            Some(token) => break token,
                            None => std::thread::yield_now(),
                        }
                    };
                    let mut sum = out.lock().expect("no panic");
                    *sum += size;
                    assert!(*sum <= 10, "more handed out than there is");
                    drop(sum);
                    *out.lock().expect("no panic") -= size;
                    drop(token);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no panic");
    }
    assert_eq!(pool.utilisation().available, pool.total());
}

#[derive(Debug, Clone)]
enum Event {
    Try(Resources),
    /// Joins the line, and is polled or not before anything else happens.
    Join(Resources, bool),
    Poll(Index),
    Leave(Index),
    GiveBack(Index),
}

fn need() -> impl Strategy<Value = Resources> {
    (0..=10u64, 0..=10u64).prop_map(|(memory_bytes, cpu_millis)| Resources {
        memory_bytes,
        cpu_millis,
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => need().prop_map(Event::Try),
        4 => (need(), any::<bool>()).prop_map(|(need, polled)| Event::Join(need, polled)),
        2 => any::<Index>().prop_map(Event::Poll),
        2 => any::<Index>().prop_map(Event::Leave),
        4 => any::<Index>().prop_map(Event::GiveBack),
    ]
}

/// A request and what the model knows of it.
struct Request {
    task: ManualTask<Waiter>,
    number: u64,
    need: Resources,
    polled: bool,
}

/// The rule of the pool in its plainest form.
struct Model {
    free: Resources,
    line: VecDeque<(u64, Resources)>,
}

impl Model {
    fn admit(&mut self) {
        while let Some((_, need)) = self.line.front().copied()
            && need.fits_in(self.free)
        {
            self.free = self.free.saturating_sub(need);
            self.line.pop_front();
        }
    }

    fn missing(&self, number: u64) -> Option<Resources> {
        let place = self.line.iter().position(|(other, _)| *other == number)?;
        let sum = self
            .line
            .iter()
            .take(place + 1)
            .fold(Resources::default(), |sum, (_, need)| {
                sum.saturating_add(*need)
            });
        Some(sum.saturating_sub(self.free))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_order_of_events_follows_the_model(events in vec(event(), 1..60)) {
        let total = Resources { memory_bytes: 10, cpu_millis: 10 };
        let pool = Pool::new(total);
        let mut model = Model { free: total, line: VecDeque::new() };
        let mut requests: Vec<Request> = Vec::new();
        let mut tokens: Vec<Token> = Vec::new();
        for (number, event) in (0..).zip(events) {
            match event {
                Event::Try(need) => {
                    let fits = need.is_zero() || (model.line.is_empty() && need.fits_in(model.free));
                    match pool.try_acquire(need) {
                        Ok(token) => {
                            prop_assert!(fits, "jumped the line or took what is not there");
                            model.free = model.free.saturating_sub(need);
                            tokens.push(token);
                        }
                        Err(shortage) => {
                            prop_assert!(!fits);
                            model.line.push_back((number, need));
                            prop_assert_eq!(Some(shortage.missing), model.missing(number));
                            model.line.pop_back();
                        }
                    }
                }
                Event::Join(need, polled) => {
                    let mut task = wait(&pool, need);
                    if !need.is_zero() {
                        model.line.push_back((number, need));
                    }
                    model.admit();
                    match polled.then(|| task.poll()).flatten() {
                        Some(token) => tokens.push(token),
                        None => requests.push(Request { task, number, need, polled }),
                    }
                }
                Event::Poll(which) if !requests.is_empty() => {
                    let which = which.index(requests.len());
                    requests[which].polled = true;
                    if let Some(token) = requests[which].task.poll() {
                        tokens.push(token);
                        requests.swap_remove(which);
                    }
                }
                Event::Leave(which) if !requests.is_empty() => {
                    let gone = requests.swap_remove(which.index(requests.len()));
                    let waited = model.line.len();
                    model.line.retain(|(number, _)| *number != gone.number);
                    if model.line.len() == waited {
                        model.free = model.free.saturating_add(gone.need);
                    }
                    model.admit();
                }
                Event::GiveBack(which) if !tokens.is_empty() => {
                    let token = tokens.swap_remove(which.index(tokens.len()));
                    model.free = model.free.saturating_add(token.resources());
                    model.admit();
                }
                Event::Poll(_) | Event::Leave(_) | Event::GiveBack(_) => {}
            }
            let utilisation = pool.utilisation();
            prop_assert_eq!(utilisation.available, model.free);
            let granted = requests.iter().filter(|request| model.missing(request.number).is_none());
            let held = tokens.iter().map(Token::resources).chain(granted.map(|request| request.need));
            let held = held.fold(Resources::default(), Resources::saturating_add);
            prop_assert_eq!(utilisation.used, held);
            for request in &requests {
                let missing = model.missing(request.number);
                prop_assert_eq!(request.task.get().missing(), missing);
                if request.polled {
                    prop_assert_eq!(request.task.is_woken(), missing.is_none(), "woken if and only if served");
                }
            }
        }
        drop((requests, tokens));
        prop_assert_eq!(pool.utilisation().available, total);
    }
}
