//! Threads that share the work of one forward pass.
//!
//! A pass is a row of short *phases* (tens of microseconds each), and a phase is a number of independent tasks. The
//! caller is the leader: it opens a phase, takes tasks from it until none is left, and waits for those that helpers took.
//! Helpers look for the next phase without sleeping while they belong to a team, and for a moment longer; then they are
//! parked. One that is late, or that the system does not run, is waited for only in as far as it has taken a task: the
//! leader can do all of them.
//!
//! Invariants: each task of a phase runs exactly once and has ended when the phase ends; at most as many threads compute
//! as the pool was started with, callers included; nothing is allocated after the start.

mod parts;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(super) use parts::{Even, Parts, Ranges};

use crate::error::{Error, Result};

/// The helpers of a team are the bits of a word.
const MAX_THREADS: usize = 64;

/// What fits into a board's word.
pub(super) const MAX_TASKS: usize = 0xffff;

/// How long a helper without a team stays awake. Waking one takes about as long, and requests often follow each other.
const LINGER: Duration = Duration::from_micros(100);

/// What a helper is to do, unless it is the index of a board.
const NOTHING: usize = usize::MAX;
const STOP: usize = usize::MAX - 1;

/// A phase that is open, for the threads of one team.
#[repr(align(128))]
struct Board {
    /// The number of the phase in the upper 32 bits, then 16 bits each for its tasks and for the next of them. All in one
    /// word, so that a task is taken only from the phase that was looked at.
    claims: AtomicU64,
    done: AtomicUsize,
    /// The closure of the phase, and the function that calls it.
    work: AtomicPtr<()>,
    call: AtomicPtr<()>,
    panicked: AtomicBool,
}

#[repr(align(128))]
struct Desk {
    assignment: AtomicUsize,
    parked: AtomicBool,
}

struct Shared {
    boards: Vec<Board>,
    desks: Vec<Desk>,
}

/// Who is free.
struct Free {
    threads: usize,
    boards: Vec<usize>,
    helpers: Vec<usize>,
    /// Callers that wait for a thread. A notification that nobody waits for is a system call all the same.
    waiting: usize,
}

/// Helpers for several callers.
pub(super) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    free: Mutex<Free>,
    returned: Condvar,
}

/// A leader, and the helpers it has for now.
pub(super) struct Team<'a> {
    pool: Option<(&'a Pool, usize)>,
    helpers: u64,
}

type Call = unsafe fn(*const (), usize);

/// # Safety
/// `work` points to an `F` that is alive.
unsafe fn call<F: Fn(usize) + Sync>(work: *const (), task: usize) {
    // SAFETY: passed on to the caller.
    unsafe { (*work.cast::<F>())(task) }
}

impl Board {
    fn new() -> Self {
        Self {
            claims: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            call: AtomicPtr::new(std::ptr::null_mut()),
            panicked: AtomicBool::new(false),
        }
    }

    /// Runs all tasks, together with the helpers that look at this board. Only the leader calls this.
    fn lead<F: Fn(usize) + Sync>(&self, tasks: usize, work: &F) {
        assert!(tasks <= MAX_TASKS, "a phase has at most {MAX_TASKS} tasks");
        self.done.store(0, Ordering::Relaxed);
        self.work.store(std::ptr::from_ref(work).cast::<()>().cast_mut(), Ordering::Relaxed);
        self.call.store(call::<F> as *mut (), Ordering::Relaxed);
        let phase = (self.claims.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.claims.store(phase << 32 | (tasks as u64) << 16, Ordering::Release);
        self.help();
        let mut waited = 0u32;
        while self.done.load(Ordering::Acquire) < tasks {
            waited = waited.wrapping_add(1);
            wait(waited);
        }
        assert!(!self.panicked.swap(false, Ordering::Relaxed), "a task of the encoder panicked; see the message above");
    }

    /// Takes tasks of the open phase until none is left; says whether there was one.
    fn help(&self) -> bool {
        let mut helped = false;
        let mut claims = self.claims.load(Ordering::Acquire);
        loop {
            let (work, entry) = (self.work.load(Ordering::Relaxed), self.call.load(Ordering::Relaxed));
            let (task, tasks) = (claims & 0xffff, claims >> 16 & 0xffff);
            if task >= tasks {
                return helped;
            }
            match self.claims.compare_exchange(claims, claims + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: `lead` writes `work` and `call` before it opens a phase, and not before all tasks of the one
                    // before are done. They were read after the phase was seen to have this task left, and the exchange
                    // says that it still had; so they belong to it, and `lead` keeps the closure alive until it is done.
                    let run = AssertUnwindSafe(|| unsafe {
                        let entry: Call = std::mem::transmute::<*mut (), Call>(entry);
                        entry(work, task as usize);
                    });
                    if catch_unwind(run).is_err() {
                        self.panicked.store(true, Ordering::Relaxed);
                    }
                    self.done.fetch_add(1, Ordering::Release);
                    helped = true;
                    claims = self.claims.load(Ordering::Acquire);
                }
                Err(current) => claims = current,
            }
        }
    }
}

/// One turn of waiting for another thread.
///
/// On a machine with more to do than cores, the other one may not be running: the core is offered to it after some tens of
/// microseconds, a few phases. Offering it within a phase costs more than the phase.
fn wait(turns: u32) {
    if turns > 2048 && turns.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

impl Shared {
    fn serve(&self, desk: &Desk) {
        let mut free_since = Instant::now();
        let (mut free, mut idle) = (true, 0u32);
        loop {
            match desk.assignment.load(Ordering::Acquire) {
                STOP => return,
                NOTHING => {
                    if !free {
                        (free, idle, free_since) = (true, 0, Instant::now());
                    }
                    idle = idle.wrapping_add(1);
                    wait(idle);
                    if idle.is_multiple_of(64) && free_since.elapsed() > LINGER {
                        desk.parked.store(true, Ordering::SeqCst);
                        if desk.assignment.load(Ordering::SeqCst) == NOTHING {
                            std::thread::park();
                        }
                        desk.parked.store(false, Ordering::SeqCst);
                        free_since = Instant::now();
                    }
                }
                board => {
                    free = false;
                    if self.boards[board].help() {
                        idle = 0;
                    }
                    idle = idle.wrapping_add(1);
                    wait(idle);
                }
            }
        }
    }
}

impl Pool {
    /// Starts the helpers for so many threads that compute at once.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let threads = threads.clamp(1, MAX_THREADS);
        let desk = || Desk { assignment: AtomicUsize::new(NOTHING), parked: AtomicBool::new(false) };
        let shared = Arc::new(Shared {
            boards: (0..threads).map(|_| Board::new()).collect(),
            desks: (1..threads).map(|_| desk()).collect(),
        });
        let free = Free { threads, boards: (0..threads).collect(), helpers: (0..threads - 1).collect(), waiting: 0 };
        let mut pool = Self { shared, helpers: Vec::new(), free: Mutex::new(free), returned: Condvar::new() };
        for index in 0..threads - 1 {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("mynah-{index}"));
            let helper = builder.spawn(move || shared.serve(&shared.desks[index]));
            pool.helpers.push(helper.map_err(|error| Error::Threads { threads, reason: error.to_string() })?);
        }
        Ok(pool)
    }

    /// How many threads may compute at once.
    pub(super) fn threads(&self) -> usize {
        self.shared.boards.len()
    }

    /// Waits until one more thread may compute, and takes as many helpers as are free, `wanted` with the caller.
    pub(super) fn team(&self, wanted: usize) -> Team<'_> {
        let mut free = self.lock();
        let board = loop {
            match free.boards.pop() {
                Some(board) if free.threads > 0 => break board,
                Some(board) => free.boards.push(board),
                None => {}
            }
            free.waiting += 1;
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
            free.waiting -= 1;
        };
        free.threads -= 1;
        let mut team = Team { pool: Some((self, board)), helpers: 0 };
        for _ in 1..wanted {
            if free.threads == 0 {
                break;
            }
            let Some(helper) = free.helpers.pop() else { break };
            free.threads -= 1;
            team.helpers |= 1 << helper;
            self.assign(helper, board);
        }
        team
    }

    fn assign(&self, helper: usize, what: usize) {
        let desk = &self.shared.desks[helper];
        desk.assignment.store(what, Ordering::SeqCst);
        if what != NOTHING && desk.parked.load(Ordering::SeqCst) {
            self.helpers[helper].thread().unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (index, helper) in std::mem::take(&mut self.helpers).into_iter().enumerate() {
            self.shared.desks[index].assignment.store(STOP, Ordering::SeqCst);
            helper.thread().unpark();
            // A helper catches whatever its tasks do, and has nothing else to report.
            let _ = helper.join();
        }
    }
}

impl Team<'_> {
    /// A leader without helpers and without a pool.
    pub(super) fn alone() -> Self {
        Self { pool: None, helpers: 0 }
    }

    /// The number of threads, the leader included.
    pub(super) fn size(&self) -> usize {
        1 + self.helpers.count_ones() as usize
    }

    /// How many items a task of a phase should have, so that whoever is done early finds another.
    pub(super) fn share_of(&self, items: usize) -> usize {
        match self.size() {
            1 => items.max(1),
            size => items.div_ceil(size * 4).max(1),
        }
    }

    /// Runs a phase: `work` for every task, with the part of the buffers that belongs to it.
    ///
    /// # Panics
    /// When a task does.
    pub(super) fn run<P: Parts>(&self, tasks: usize, parts: P, work: impl Fn(usize, P::Part) + Sync) {
        // SAFETY: every task runs once, and its index is that of its part.
        let task = |index: usize| work(index, unsafe { parts.part(index) });
        match self.pool {
            Some((pool, board)) if self.helpers != 0 && tasks > 1 => pool.shared.boards[board].lead(tasks, &task),
            _ => (0..tasks).for_each(task),
        }
    }
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        let Some((pool, board)) = self.pool else { return };
        let mut free = pool.lock();
        free.threads += self.size();
        free.boards.push(board);
        for helper in (0..MAX_THREADS).filter(|helper| self.helpers >> helper & 1 == 1) {
            pool.assign(helper, NOTHING);
            free.helpers.push(helper);
        }
        let waited_for = free.waiting > 0;
        drop(free);
        if waited_for {
            pool.returned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_with_its_part() {
        for threads in [1, 2, 5] {
            let pool = Pool::start(threads).unwrap();
            let team = pool.team(threads);
            assert_eq!(team.size(), threads);
            for tasks in [0, 1, 2, 7, 100] {
                let (mut even, mut odd) = (vec![0; tasks * 3], vec![0; tasks]);
                for round in 1..50 {
                    team.run(tasks, (Even::new(&mut even, 3), Even::new(&mut odd, 1)), |task, (even, odd)| {
                        even.iter_mut().for_each(|value| *value += task + round);
                        odd[0] += 1;
                    });
                }
                assert!(odd.iter().all(|&count| count == 49));
                assert!(even.iter().enumerate().all(|(index, &sum)| sum == 49 * (index / 3) + 49 * 50 / 2));
            }
        }
    }

    #[test]
    fn no_more_threads_compute_than_there_are() {
        let pool = Pool::start(3).unwrap();
        let (computing, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for caller in 0..8 {
                let (pool, computing, most) = (&pool, &computing, &most);
                scope.spawn(move || {
                    for _ in 0..40 {
                        let team = pool.team(1 + caller % 3);
                        let mut sums = [0; 24];
                        team.run(24, Even::new(&mut sums, 1), |task, sum| {
                            most.fetch_max(1 + computing.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                            sum[0] = (0..200).map(|value| value * task).sum();
                            computing.fetch_sub(1, Ordering::SeqCst);
                        });
                        assert!(sums.iter().enumerate().all(|(task, &sum)| sum == task * 19_900));
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(pool.lock().helpers.len(), 2);
    }

    #[test]
    fn a_panic_of_a_task_is_the_leaders_and_the_team_works_on() {
        let pool = Pool::start(2).unwrap();
        let team = pool.team(2);
        let failing = || team.run(8, (), |task, ()| assert!(task != 5));
        assert!(catch_unwind(AssertUnwindSafe(failing)).is_err());
        let mut values = [0; 8];
        team.run(8, Even::new(&mut values, 1), |task, value| value[0] = task);
        assert_eq!(values, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
