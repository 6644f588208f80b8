//! The encoder's threads, for other work of a turn between two passes.
//!
//! Invariant: as with passes, no more threads compute at once than the encoder was given, and who finds none free does all
//! of its work alone.

use super::team::{Even, MAX_TASKS, Pool};

/// Threads that help with work that can be shared out; perhaps none.
#[derive(Clone, Copy)]
pub(crate) struct Helpers<'a>(Option<&'a Pool>);

impl<'a> Helpers<'a> {
    /// Nobody helps.
    pub fn none() -> Self {
        Self(None)
    }

    pub(super) fn of(pool: &'a Pool) -> Self {
        Self(Some(pool))
    }

    /// How many threads there are, the caller among them.
    pub fn threads(self) -> usize {
        self.0.map_or(1, Pool::threads)
    }

    /// Does both, side by side where somebody helps; neither may ask for helpers itself.
    pub fn join<A: Send, B: Send>(self, a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
        let (mut a, mut b) = (Some(a), Some(b));
        let (mut of_a, mut of_b) = (None, None);
        let mut both: [&mut (dyn FnMut() + Send); 2] =
            [&mut || of_a = a.take().map(|a| a()), &mut || of_b = b.take().map(|b| b())];
        self.share(&mut both, |_, work| work());
        match (of_a, of_b) {
            (Some(a), Some(b)) => (a, b),
            _ => unreachable!("every part is worked on once"),
        }
    }

    /// Does `work` once for every part, with its index.
    ///
    /// A part should be worth a microsecond or more right after a forward pass, and ten where helpers may sleep. The work must not
    /// ask for helpers itself.
    pub fn share<T: Send>(self, parts: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
        match self.0.filter(|_| (2..=MAX_TASKS).contains(&parts.len())) {
            Some(pool) => {
                let team = pool.team(pool.threads().min(parts.len()));
                team.run(parts.len(), Even::new(parts, 1), |index, part| {
                    part.iter_mut().for_each(|part| work(index, part));
                });
            }
            None => parts.iter_mut().enumerate().for_each(|(index, part)| work(index, part)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_two_are_done() {
        let pools = [1, 2].map(|threads| Pool::start(threads).unwrap());
        for helpers in [Helpers::none(), Helpers::of(&pools[0]), Helpers::of(&pools[1])] {
            let words = ["a", "b"];
            for number in 0..50 {
                assert_eq!(helpers.join(|| number + 1, || words.concat()), (number + 1, "ab".to_owned()));
            }
        }
        assert_eq!([Helpers::none(), Helpers::of(&pools[0]), Helpers::of(&pools[1])].map(Helpers::threads), [1, 1, 2]);
    }

    #[test]
    fn every_part_is_worked_on_once() {
        let pools = [1, 3].map(|threads| Pool::start(threads).unwrap());
        for helpers in [Helpers::none(), Helpers::of(&pools[0]), Helpers::of(&pools[1])] {
            for count in [0, 1, 2, 50] {
                let mut parts = vec![1; count];
                helpers.share(&mut parts, |index, part| *part += index);
                assert!(parts.iter().enumerate().all(|(index, part)| *part == 1 + index));
            }
        }
    }
}
