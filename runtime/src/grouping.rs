//! Many callers at once: requests that wait for a free core are computed together.
//!
//! A request that finds a core free is computed at once, alone and by its own caller; there is no thread and no delay beside
//! it. One that finds none waits. Whoever is done hands the core to the one that has waited longest, and that one computes
//! itself and those behind it, as many as a batch may hold: the weights are then read once for all of them.
//!
//! Invariants: a request gets what it would get alone; whoever waits is woken, also when the one who computes for it
//! panics: it then computes for itself. The queue is first come, first served; how long it may be is the business of
//! whoever lets callers in.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Tokens of one batch, beside its first request. About twenty requests of usual size: more would let the first wait
/// for the last and gain nothing.
const MAX_TOKENS: usize = 256;

/// Groups requests before a function that computes batches.
#[derive(Debug)]
pub(crate) struct Grouping {
    /// How many batches may be computed at a time.
    cores: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    busy: usize,
    waiting: VecDeque<Arc<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    input_ids: Vec<u32>,
    answer: Mutex<Answer>,
    answered: Condvar,
}

#[derive(Debug)]
enum Answer {
    None,
    /// A core is free: compute yourself, and others with you.
    Core,
    /// What another computed; its hidden states.
    Rows(Vec<f32>),
    /// Who computed for you is gone: compute alone.
    Alone,
}

impl Waiting {
    fn give(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        self.answered.notify_one();
    }

    fn wait(&self) -> Answer {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        while matches!(*answer, Answer::None) {
            answer = self.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::replace(&mut *answer, Answer::None)
    }
}

impl Grouping {
    /// Groups when more than `cores` requests come together.
    pub fn new(cores: usize) -> Self {
        Self { cores: cores.max(1), state: Mutex::default() }
    }

    /// Computes one request, together with others where that helps.
    ///
    /// # Shapes
    /// `compute` and the result: `[tokens, dim]` for every sequence
    pub fn run(&self, input_ids: &[u32], compute: impl Fn(&[&[u32]]) -> Vec<Vec<f32>>) -> Vec<f32> {
        let alone = || compute(&[input_ids]).pop().unwrap_or_default();
        let waiting = {
            let mut state = self.lock();
            if state.busy < self.cores {
                state.busy += 1;
                None
            } else {
                let answer = Mutex::new(Answer::None);
                let own = Arc::new(Waiting { input_ids: input_ids.to_vec(), answer, answered: Condvar::new() });
                state.waiting.push_back(Arc::clone(&own));
                Some(own)
            }
        };
        let Some(own) = waiting else {
            let _core = Core { grouping: self, others: Vec::new() };
            return alone();
        };
        match own.wait() {
            Answer::Rows(rows) => rows,
            Answer::Core => {
                let mut core = Core { grouping: self, others: self.take(input_ids.len()) };
                let sequences: Vec<&[u32]> = std::iter::once(input_ids)
                    .chain(core.others.iter().map(|other| other.input_ids.as_slice()))
                    .collect();
                let mut computed = compute(&sequences).into_iter();
                let rows = computed.next().unwrap_or_default();
                for (other, rows) in core.others.drain(..).zip(computed) {
                    other.give(Answer::Rows(rows));
                }
                rows
            }
            Answer::Alone | Answer::None => alone(),
        }
    }

    /// The requests that have waited longest, as many as fit beside one of `tokens`.
    fn take(&self, mut tokens: usize) -> Vec<Arc<Waiting>> {
        let mut state = self.lock();
        // With several cores each gets its share: two half batches are faster than one whole.
        let share = (state.waiting.len() + 1).div_ceil(self.cores).saturating_sub(1);
        let fits = |waiting: &&Arc<Waiting>| {
            tokens += waiting.input_ids.len();
            tokens <= MAX_TOKENS
        };
        let count = state.waiting.iter().take(share).take_while(fits).count();
        state.waiting.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A core that computes; given to the next when it is done, also by a panic.
struct Core<'a> {
    grouping: &'a Grouping,
    /// For whom it computes and who has no answer yet.
    others: Vec<Arc<Waiting>>,
}

impl Drop for Core<'_> {
    fn drop(&mut self) {
        for other in self.others.drain(..) {
            other.give(Answer::Alone);
        }
        let mut state = self.grouping.lock();
        match state.waiting.pop_front() {
            Some(next) => {
                drop(state);
                next.give(Answer::Core);
            }
            None => state.busy -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use proptest::prelude::*;

    /// Every sequence's "hidden states" are its own numbers.
    fn echo(sequences: &[&[u32]]) -> Vec<Vec<f32>> {
        sequences.iter().map(|sequence| sequence.iter().map(|id| *id as f32).collect()).collect()
    }

    fn expected(input_ids: &[u32]) -> Vec<f32> {
        input_ids.iter().map(|id| *id as f32).collect()
    }

    /// Waits until that many requests are in the queue.
    fn until_waiting(grouping: &Grouping, count: usize) {
        while grouping.lock().waiting.len() < count {
            std::thread::yield_now();
        }
    }

    proptest! {
        #[test]
        fn everybody_gets_their_own(requests in prop::collection::vec(prop::collection::vec(0_u32..1000, 0..100), 1..24), cores in 1_usize..4) {
            let grouping = Grouping::new(cores);
            std::thread::scope(|scope| {
                for request in &requests {
                    let grouping = &grouping;
                    scope.spawn(move || assert_eq!(grouping.run(request, echo), expected(request)));
                }
            });
            let state = grouping.lock();
            prop_assert_eq!((state.busy, state.waiting.len()), (0, 0));
        }
    }

    #[test]
    fn who_waits_is_computed_together_within_the_budget() {
        let grouping = Grouping::new(1);
        let gate = Barrier::new(2);
        let batches = Mutex::new(Vec::new());
        let noted = |sequences: &[&[u32]]| {
            batches.lock().unwrap().push(sequences.len());
            echo(sequences)
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                grouping.run(&[1], |sequences| {
                    gate.wait();
                    noted(sequences)
                })
            });
            // The core is taken now, or will be before anybody else can have it.
            while grouping.lock().busy == 0 {
                std::thread::yield_now();
            }
            for _ in 0..6 {
                scope.spawn(|| grouping.run(&[7; 100], noted));
            }
            until_waiting(&grouping, 6);
            gate.wait();
        });
        assert_eq!(batches.into_inner().unwrap(), [1, 2, 2, 2]);
    }

    #[test]
    fn a_panic_is_its_own_callers_alone() {
        let grouping = Grouping::new(1);
        let gate = Barrier::new(2);
        let panics = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                grouping.run(&[1], |sequences| {
                    gate.wait();
                    echo(sequences)
                })
            });
            while grouping.lock().busy == 0 {
                std::thread::yield_now();
            }
            for request in 0..4_u32 {
                let (grouping, panics) = (&grouping, &panics);
                scope.spawn(move || {
                    let bad = |sequences: &[&[u32]]| {
                        assert!(sequences.len() == 1, "a batch that fails");
                        echo(sequences)
                    };
                    match catch_unwind(AssertUnwindSafe(|| grouping.run(&[request], bad))) {
                        Ok(rows) => assert_eq!(rows, [request as f32]),
                        Err(_) => _ = panics.fetch_add(1, Ordering::SeqCst),
                    }
                });
            }
            until_waiting(&grouping, 4);
            gate.wait();
        });
        assert_eq!(panics.into_inner(), 1, "the one who computed");
        assert_eq!(grouping.run(&[5], echo), [5.0], "and the core is free again");
    }
}
