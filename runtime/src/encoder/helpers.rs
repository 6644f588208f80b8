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

    /// Does `work` once for every part, with its index.
    ///
    /// A part should be worth ten microseconds or more. The work must not ask for helpers itself.
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
