use std::collections::BTreeMap;

use super::*;
use crate::placement::runner::RunnerId;

fn runners(names: &[(String, u32)]) -> Vec<Arc<Runner>> {
    let runner = |(n, (name, weight)): (usize, &(String, u32))| {
        Arc::new(Runner::new(RunnerId(n as u32), name, *weight))
    };
    names.iter().enumerate().map(runner).collect()
}

fn names(count: usize) -> Vec<(String, u32)> {
    (0..count)
        .map(|n| (format!("10.0.0.{n}:9190"), 1))
        .collect()
}

fn first(ring: &Ring, fn_id: &str) -> Arc<str> {
    Arc::clone(
        &ring
            .candidates(fn_id)
            .next()
            .expect("the ring is not empty")
            .address,
    )
}

#[test]
fn the_hash_is_the_same_in_every_build() {
    let hash = |text: &str| Canonical.hash_item(&text);
    // FNV-1a of the bytes and 0xff, mixed: written down so that a change is noticed.
    assert_eq!(hash(""), 0x4f2d_b50f_1240_40cd);
    assert_eq!(hash("10.0.0.1:9190"), 0x5738_34f1_a7c5_ae35);
}

#[test]
fn load_balancers_agree_in_whatever_order_they_learned_of_the_runners() {
    let mut backwards = names(20);
    backwards.reverse();
    let (one, other) = (
        Ring::new(&runners(&names(20))),
        Ring::new(&runners(&backwards)),
    );
    for n in 0..200 {
        let fn_id = format!("fn-{n}");
        let order = |ring: &Ring| -> Vec<_> {
            ring.candidates(&fn_id)
                .map(|runner| Arc::clone(&runner.address))
                .collect()
        };
        assert_eq!(order(&one), order(&other));
        assert_eq!(order(&one).len(), 20, "each runner once");
    }
}

#[test]
fn functions_are_spread_by_weight() {
    let mut names = names(50);
    names[7].1 = 3;
    let ring = Ring::new(&runners(&names));
    let mut homes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for n in 0..52_000 {
        *homes.entry(first(&ring, &format!("fn-{n}"))).or_default() += 1;
    }
    for (name, weight) in names {
        let share = homes[name.as_str()] as f64 / (1_000.0 * f64::from(weight));
        assert!(
            (0.7..1.3).contains(&share),
            "{name} has {share} of its share"
        );
    }
}

#[test]
fn a_runner_that_goes_takes_only_its_own_functions_along() {
    let all = names(20);
    let (before, after) = (Ring::new(&runners(&all)), Ring::new(&runners(&all[..19])));
    for n in 0..2_000 {
        let fn_id = format!("fn-{n}");
        let home = first(&before, &fn_id);
        if *home != *all[19].0 {
            assert_eq!(first(&after, &fn_id), home);
        }
    }
}

#[test]
fn an_empty_ring_has_no_candidates() {
    assert_eq!(Ring::new(&[]).candidates("fn").count(), 0);
}
