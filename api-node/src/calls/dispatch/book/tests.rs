//! The rules of the book, and what holds whatever happens to it.

use std::collections::BTreeMap;

use domain::Timestamp;
use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    ageing: 1_000,
    hold: 500,
};

fn doorbell(id: &str, call: u64, priority: i32) -> Doorbell {
    Doorbell {
        lease: LeaseRef {
            call_id: CallId::from(format!("{call:08}")),
            epoch: 0,
        },
        fn_id: FnId::from(id),
        priority,
        due_at: Timestamp::from_unix_millis(0),
    }
}

fn lease_of(placed: &Placed<u64>) -> LeaseRef {
    LeaseRef {
        epoch: 1,
        ..placed.waiting.doorbell.lease.clone()
    }
}

/// A book, and the number of the next call.
struct Fixture {
    book: Book<u64>,
    calls: u64,
}

impl Fixture {
    /// With one runner of so many slots, all of them granted.
    fn with_slots(slots: u32) -> Self {
        let mut book = Book::new(RULES);
        book.join(1, "runner".into(), slots);
        book.grant(1, slots);
        Self { book, calls: 0 }
    }

    fn add(&mut self, id: &str, priority: i32, now: u64) -> u64 {
        self.calls += 1;
        let doorbell = Doorbell {
            due_at: Timestamp::from_unix_millis(i64::try_from(now).expect("a time")),
            ..doorbell(id, self.calls, priority)
        };
        self.book.add(doorbell, self.calls, now).expect("new");
        self.calls
    }

    /// Places and leases what it can.
    fn place(&mut self, now: u64) -> Vec<Placed<u64>> {
        let placed = self.book.place(usize::MAX, now);
        for one in &placed {
            self.book.leased(one, lease_of(one), now);
        }
        placed
    }

    fn place_one(&mut self, now: u64) -> Option<Placed<u64>> {
        let placed = self.book.place(1, now).pop()?;
        self.book.leased(&placed, lease_of(&placed), now);
        Some(placed)
    }

    /// A call ends, and its slot is granted anew.
    fn end(&mut self, placed: &Placed<u64>) {
        self.book.over(&lease_of(placed));
        self.book.grant(placed.link, 1);
    }
}

fn fns(placed: &[Placed<u64>]) -> Vec<&str> {
    let fns = placed.iter().map(|one| one.waiting.doorbell.fn_id.as_str());
    fns.collect()
}

#[test]
fn a_hog_leaves_room_that_another_finds_at_once() {
    let mut fixture = Fixture::with_slots(8);
    for _ in 0..10_000 {
        fixture.add("hog", 9, 0);
    }
    assert_eq!(fixture.place(0).len(), 6);
    fixture.add("small", 0, 0);
    assert_eq!(fns(&fixture.place(0)), ["small"]);
    // With a slot less free, the hog gets no more either.
    assert_eq!(fixture.place(0).len(), 0);
}

#[test]
fn the_last_slot_goes_to_who_has_none() {
    let mut fixture = Fixture::with_slots(1);
    fixture.add("a", 0, 0);
    assert_eq!(fns(&fixture.place(0)), ["a"]);
}

#[test]
fn a_runner_that_grants_few_credits_at_a_time_is_filled_all_the_same() {
    let mut book = Book::new(RULES);
    book.join(1, "runner".into(), 40);
    let mut fixture = Fixture { book, calls: 0 };
    for _ in 0..100 {
        fixture.add("hog", 0, 0);
    }
    let mut placed = 0;
    for _ in 0..40 {
        fixture.book.grant(1, 1);
        placed += fixture.place(0).len();
    }
    assert_eq!(placed, 30);
}

#[test]
fn functions_take_turns_and_high_priorities_go_first_within_one() {
    let mut fixture = Fixture::with_slots(1);
    for id in ["a", "b"] {
        fixture.add(id, 0, 0);
        fixture.add(id, 0, 0);
    }
    let urgent = fixture.add("a", 5, 0);
    let mut order = vec![];
    while let Some(placed) = fixture.place_one(0) {
        fixture.end(&placed);
        order.push(placed);
    }
    assert_eq!(order.first().map(|one| one.waiting.token), Some(urgent));
    assert_eq!(fns(&order), ["a", "b", "a", "b", "a"]);
}

#[test]
fn priority_grows_with_age() {
    let mut fixture = Fixture::with_slots(1);
    let low = fixture.add("a", 0, 0);
    let high = fixture.add("a", 9, 8_999);
    let first = fixture.place_one(8_999).expect("a call");
    assert_eq!(first.waiting.token, high);
    fixture.end(&first);
    fixture.add("a", 9, 9_001);
    let second = fixture.place_one(9_001).expect("a call");
    assert_eq!(second.waiting.token, low);
}

#[test]
fn warm_containers_are_found_again() {
    let mut fixture = Fixture::with_slots(4);
    fixture.book.join(2, "other".into(), 4);
    fixture.add("a", 0, 0);
    let first = fixture.place_one(0).expect("a call");
    fixture.book.grant(2, 4);
    fixture.book.grant(1, 1);
    fixture.add("a", 0, 0);
    let second = fixture.place_one(0).expect("a call");
    assert_eq!(second.link, first.link);
}

#[test]
fn what_cannot_be_placed_is_given_back_and_kept_longer_when_it_returns() {
    let mut fixture = Fixture::with_slots(0);
    let token = fixture.add("a", 0, 0);
    assert!(fixture.book.overdue(499).is_empty());
    assert_eq!(fixture.book.overdue(500), [token]);
    assert_eq!(fixture.book.waiting(), 0);
    let again = doorbell("a", token, 0);
    fixture.book.add(again, token, 600).expect("it is new");
    assert!(fixture.book.overdue(1_599).is_empty());
    assert_eq!(fixture.book.overdue(1_600), [token]);
}

#[test]
fn a_doubled_message_is_not_needed() {
    let mut fixture = Fixture::with_slots(1);
    let call = fixture.add("a", 0, 0);
    let doubled = fixture.book.add(doorbell("a", call, 0), 77, 0);
    assert_eq!(doubled, Err(77));
    // Not while it is claimed, either; and it is new again once that is over.
    let placed = fixture.book.place(1, 0).pop().expect("a call");
    assert_eq!(fixture.book.add(doorbell("a", call, 0), 78, 0), Err(78));
    fixture.book.refused(&placed);
    assert_eq!(fixture.book.add(doorbell("a", call, 0), 79, 0), Ok(()));
}

#[test]
fn what_ended_elsewhere_does_not_count_for_ever() {
    let mut fixture = Fixture::with_slots(4);
    for _ in 0..4 {
        fixture.add("a", 0, 0);
    }
    assert_eq!(fixture.place(0).len(), 3);
    // Two slots are free again, though no end was told here.
    fixture.book.grant(1, 2);
    assert_eq!(fixture.place(1).len(), 1);
    fixture.add("b", 0, 1);
    let placed = fixture.place(1);
    fixture.book.renewed(&[lease_of(&placed[0])], 100);
    fixture.book.forget_silent(100);
    assert_eq!(fixture.book.in_flight.of_fn(&"a".into()), 0);
    assert_eq!(fixture.book.in_flight.of_fn(&"b".into()), 1);
}

/// What can happen to a book.
#[derive(Debug, Clone)]
enum Step {
    Add { function: u8, priority: i32 },
    Grant { link: u64, credits: u32 },
    Join { link: u64, capacity: u32 },
    Leave { link: u64 },
    Place { most: usize },
    Lease,
    Refuse,
    PutBack,
    End,
    Wait { millis: u64 },
    GiveBack,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4, -1i32..11).prop_map(|(function, priority)| Step::Add { function, priority }),
        4 => (0u64..3, 0u32..6).prop_map(|(link, credits)| Step::Grant { link, credits }),
        1 => (0u64..3, 0u32..12).prop_map(|(link, capacity)| Step::Join { link, capacity }),
        1 => (0u64..3).prop_map(|link| Step::Leave { link }),
        4 => (0usize..6).prop_map(|most| Step::Place { most }),
        4 => Just(Step::Lease),
        1 => Just(Step::Refuse),
        1 => Just(Step::PutBack),
        3 => Just(Step::End),
        1 => (0u64..2_000).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::GiveBack),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_and_no_credit_is_used_twice(steps in proptest::collection::vec(step(), 1..300)) {
        let mut book: Book<u64> = Book::new(RULES);
        let (mut calls, mut now) = (0, 0);
        let mut credits: BTreeMap<LinkId, i64> = BTreeMap::new();
        let mut claiming: VecDeque<Placed<u64>> = VecDeque::new();
        let mut running: VecDeque<LeaseRef> = VecDeque::new();
        let (mut done, mut given_back) = (0, 0);
        for step in steps {
            match step {
                Step::Add { function, priority } => {
                    calls += 1;
                    let doorbell = doorbell(&format!("f{function}"), calls, priority);
                    prop_assert_eq!(book.add(doorbell, calls, now), Ok(()));
                }
                Step::Grant { link, credits: more } => {
                    book.grant(link, more);
                    if let Some(known) = credits.get_mut(&link) {
                        *known += i64::from(more);
                    }
                }
                Step::Join { link, capacity } => {
                    if credits.insert(link, 0).is_none() {
                        book.join(link, format!("runner{}", link % 2).into(), capacity);
                    } else {
                        credits.insert(link, 0);
                        book.leave(link);
                        book.join(link, format!("runner{}", link % 2).into(), capacity);
                    }
                }
                Step::Leave { link } => {
                    book.leave(link);
                    credits.remove(&link);
                    // A number is never given to another stream.
                    claiming.retain(|placed| {
                        let gone = placed.link == link;
                        if gone {
                            book.refused(placed);
                            done += 1;
                        }
                        !gone
                    });
                }
                Step::Place { most } => {
                    let placed = book.place(most, now);
                    prop_assert!(placed.len() <= most);
                    for one in placed {
                        let left = credits.get_mut(&one.link).expect("a stream that is there");
                        *left -= 1;
                        prop_assert!(*left >= 0, "more was placed than was granted");
                        claiming.push_back(one);
                    }
                }
                Step::Lease => if let Some(placed) = claiming.pop_front() {
                    let lease = lease_of(&placed);
                    book.leased(&placed, lease.clone(), now);
                    running.push_back(lease);
                },
                Step::Refuse => if let Some(placed) = claiming.pop_back() {
                    book.refused(&placed);
                    if let Some(known) = credits.get_mut(&placed.link) {
                        *known += 1;
                    }
                    done += 1;
                },
                Step::PutBack => if let Some(placed) = claiming.pop_front() {
                    if let Some(known) = credits.get_mut(&placed.link) {
                        *known += 1;
                    }
                    book.put_back(placed);
                },
                Step::End => if let Some(lease) = running.pop_front() {
                    book.over(&lease);
                    done += 1;
                },
                Step::Wait { millis } => now += millis,
                Step::GiveBack => given_back += u64::try_from(book.overdue(now).len()).expect("few"),
            }
            let here = book.waiting() + claiming.len() + running.len();
            prop_assert_eq!(calls, done + given_back + u64::try_from(here).expect("few"));
            prop_assert_eq!(book.claiming(), claiming.len());
            let free: i64 = credits.values().sum();
            prop_assert_eq!(i64::try_from(book.credits()).expect("few"), free);
        }
    }

    /// However many others come, a call that waits is placed after a bounded number of others.
    #[test]
    fn nobody_starves(
        slots in 1u32..9,
        hogs in 1u8..4,
        priority in 0i32..10,
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 400),
    ) {
        let mut fixture = Fixture::with_slots(slots);
        let mut now = 0;
        for hog in 0..hogs {
            for _ in 0..50 {
                fixture.add(&format!("hog{hog}"), 9, now);
            }
        }
        let mut running: Vec<Placed<u64>> = fixture.place(now);
        let mine = fixture.add("small", priority, now);
        let mut placed_before = 0;
        for index in order {
            // One call ends after a hundred milliseconds, and each hog hands in another one.
            now += 100;
            if !running.is_empty() {
                let ended = running.swap_remove(index.index(running.len()));
                fixture.end(&ended);
            }
            for hog in 0..hogs {
                fixture.add(&format!("hog{hog}"), 9, now);
            }
            let placed = fixture.place(now);
            if placed.iter().any(|one| one.waiting.token == mine) {
                return Ok(());
            }
            placed_before += placed.len();
            running.extend(placed);
        }
        prop_assert!(false, "{placed_before} others were placed");
    }
}

#[test]
fn a_runner_that_could_not_run_a_call_does_not_get_it_again_while_another_has_room() {
    let mut book = Book::new(RULES);
    for (link, runner) in [(1, "broken"), (2, "whole")] {
        book.join(link, runner.into(), 2);
    }
    book.grant(1, 2);
    let mut fixture = Fixture { book, calls: 0 };
    let runner_of = |placed: Option<Placed<u64>>| placed.expect("a slot");
    fixture.add("a", 0, 0);
    let first = runner_of(fixture.place_one(0));
    assert_eq!(&*first.runner, "broken");
    fixture.book.failed(&lease_of(&first));
    // Many more credits do not make up for it.
    fixture.book.grant(1, 100);
    fixture.book.grant(2, 1);
    fixture.add("a", 0, 1);
    assert_eq!(&*runner_of(fixture.place_one(1)).runner, "whole");
    // It is better than none, and as good as others once it runs a call.
    fixture.add("a", 0, 2);
    let again = runner_of(fixture.place_one(2));
    assert_eq!(&*again.runner, "broken");
    assert!(fixture.book.started(&lease_of(&again)).is_some());
    fixture.book.grant(2, 1);
    fixture.add("a", 0, 3);
    let home = runner_of(fixture.place_one(3));
    assert_eq!(&*home.runner, "whole", "its last home");
    fixture.add("a", 0, 4);
    assert_eq!(&*runner_of(fixture.place_one(4)).runner, "broken");
}
