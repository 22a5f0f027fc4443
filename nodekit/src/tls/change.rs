//! When a change of the files is complete enough to be judged.

/// What is known of the files' contents.
pub(super) struct Change<C> {
    /// What was taken over or refused last.
    judged: C,
    /// What was seen last, if it is something else.
    seen: Option<C>,
}

impl<C: Clone + Eq> Change<C> {
    /// Nothing has changed since `judged`.
    pub(super) fn since(judged: C) -> Self {
        Self { judged, seen: None }
    }

    /// Takes a look at the files; tells what is in them when it is new and has stood still from the
    /// last look to this one: who writes three files is not done with the first.
    pub(super) fn look(&mut self, found: C) -> Option<C> {
        if found == self.judged {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return None;
        }
        self.judged = found.clone();
        self.seen = None;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_still_is_judged_once() {
        let mut change = Change::since(0);
        let looks = [0, 1, 2, 2, 2, 3, 2, 3, 3, 0, 3, 0, 0, 0];
        let judged: Vec<_> = looks.map(|found| change.look(found)).into();
        let expected = [
            None,
            None,
            None,
            Some(2),
            None,
            None,
            None,
            None,
            Some(3),
            None,
            None,
            None,
            Some(0),
            None,
        ];
        assert_eq!(judged, expected);
    }
}
