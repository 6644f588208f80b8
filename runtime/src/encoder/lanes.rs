//! Threads for the products of rten-gemm: each *lane* is a rayon pool of one thread.
//!
//! rten-gemm splits every product over the rayon pool it is called from; for requests of usual size the splitting costs
//! more than it brings, and from a thread outside of any pool it would use the app's global one. Inside a pool of one
//! thread it runs straight through, so parallelism comes from running different sequences in different lanes.
//!
//! Invariant: a lane runs one task at a time; whoever finds all lanes taken waits for the first to come back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// More than this many threads by default would hold buffers and threads that an assistant for one person never needs.
const MAX_DEFAULT_THREADS: usize = 16;

/// As many threads as asked for, else one per core.
pub(super) fn threads(asked_for: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_THREADS);
    asked_for.unwrap_or_else(cores).max(1)
}

pub(super) struct Lanes {
    pools: Vec<ThreadPool>,
    free: Mutex<Vec<usize>>,
    returned: Condvar,
}

impl Lanes {
    pub(super) fn start(threads: usize) -> Result<Self> {
        let start = |index| {
            let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| format!("mynah-{index}"));
            builder.build().map_err(|error| Error::Threads { threads, reason: error.to_string() })
        };
        let pools = (0..threads).map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self { free: Mutex::new((0..pools.len()).collect()), pools, returned: Condvar::new() })
    }

    pub(super) fn count(&self) -> usize {
        self.pools.len()
    }

    /// Runs the work in as many free lanes as there are, at least in one and at most in `tasks`, and waits for all.
    pub(super) fn run(&self, tasks: usize, work: &(dyn Fn() + Sync)) {
        if tasks == 0 {
            return;
        }
        // Already on a thread where products run straight through.
        if rayon::current_thread_index().is_some() && rayon::current_num_threads() == 1 {
            return work();
        }
        let taken = Taken { lanes: self, indices: self.take(tasks) };
        match taken.indices.as_slice() {
            [index] => self.pools[*index].install(work),
            indices => self.fan_out(indices, work),
        }
    }

    fn fan_out(&self, indices: &[usize], work: &(dyn Fn() + Sync)) {
        if let Some((&first, rest)) = indices.split_first() {
            self.pools[first].in_place_scope(|scope| {
                scope.spawn(|_| work());
                self.fan_out(rest, work);
            });
        }
    }

    fn take(&self, most: usize) -> Vec<usize> {
        let mut free = self.lock();
        while free.is_empty() {
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        let keep = free.len().saturating_sub(most);
        free.split_off(keep)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the lanes back even when the work unwinds.
struct Taken<'a> {
    lanes: &'a Lanes,
    indices: Vec<usize>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.lanes.lock().append(&mut self.indices);
        self.lanes.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_runs_once_a_lane_and_lanes_come_back() {
        let lanes = Lanes::start(3).unwrap();
        for (tasks, expected) in [(0, 0), (1, 1), (2, 2), (9, 3)] {
            let runs = AtomicUsize::new(0);
            lanes.run(tasks, &|| {
                assert_eq!(rayon::current_num_threads(), 1);
                runs.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(runs.into_inner(), expected);
            assert_eq!(lanes.lock().len(), 3);
        }
    }

    #[test]
    fn more_callers_than_lanes_all_get_their_turn() {
        let lanes = Lanes::start(1).unwrap();
        let runs = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| lanes.run(1, &|| _ = runs.fetch_add(1, Ordering::SeqCst)));
            }
        });
        assert_eq!(runs.into_inner(), 8);
    }
}
