use super::*;

const HALF_LIFE: Duration = Duration::from_secs(2);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn the_first_sample_counts_alone_and_each_new_one_a_tenth() {
    let mut wait = WaitAverage::default();
    close(wait.read(ms(0), HALF_LIFE), 0.0);
    wait.add(ms(100), ms(0), HALF_LIFE);
    close(wait.read(ms(0), HALF_LIFE), 0.1);
    wait.add(ms(200), ms(0), HALF_LIFE);
    close(wait.read(ms(0), HALF_LIFE), 0.11);
}

#[test]
fn after_ten_samples_a_third_of_the_old_is_left() {
    let mut wait = WaitAverage::default();
    wait.add(ms(1_000), ms(0), HALF_LIFE);
    (0..10).for_each(|_| wait.add(ms(0), ms(0), HALF_LIFE));
    close(wait.read(ms(0), HALF_LIFE), 0.9_f64.powi(10));
}

#[test]
fn it_halves_while_nothing_comes() {
    let mut wait = WaitAverage::default();
    wait.set(ms(800), ms(1_000));
    close(wait.read(ms(1_000), HALF_LIFE), 0.8);
    close(wait.read(ms(3_000), HALF_LIFE), 0.4);
    close(wait.read(ms(7_000), HALF_LIFE), 0.1);
    // Time that goes back changes nothing.
    close(wait.read(ms(0), HALF_LIFE), 0.8);
}

#[test]
fn a_peak_counts_at_once_and_fades_slowly() {
    let mut wait = WaitAverage::default();
    wait.add_peak(ms(10), ms(0), HALF_LIFE);
    wait.add_peak(ms(500), ms(0), HALF_LIFE);
    close(wait.read(ms(0), HALF_LIFE), 0.5);
    wait.add_peak(ms(0), ms(0), HALF_LIFE);
    close(wait.read(ms(0), HALF_LIFE), 0.45);
}
