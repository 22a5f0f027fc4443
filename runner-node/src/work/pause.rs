//! Pauses between tries: they double up to a limit, and nobody keeps step with others.

use std::time::Duration;

/// The pauses of one task.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Pauses {
    /// From about `first` to about `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// The next pause: at random between half of it and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        self.next = (2 * self.next).min(self.longest);
        pause
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_limit_and_begin_anew() {
        let millis = Duration::from_millis;
        let mut pauses = Pauses::new(millis(10), millis(35));
        for longest in [10, 20, 35, 35] {
            let pause = pauses.next();
            assert!(pause >= millis(longest) / 2 && pause <= millis(longest));
        }
        pauses.reset();
        assert!(pauses.next() <= millis(10));
    }
}
