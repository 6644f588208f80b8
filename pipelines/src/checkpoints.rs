//! Checkpoints of a fine-tune: which epochs are kept, and where another fine-tune with the same inputs goes on.
//!
//! The weights, the optimizer and the schedule of an epoch are burn's files, which appear whole or not at all; beside them
//! `history.json` has the scores of every epoch so far, from which the best epoch and early stopping follow. Tens of megabytes
//! an epoch would keep the disk from whoever answers meanwhile, so between two writes an epoch waits in memory ([`Resting`]).
//! *Invariant:* the files always hold one epoch from which the run can go on, once there was one, and the best until then; the
//! weights that come out do not depend on where a run was killed.

use burn::optim::OptimizerRecord;
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::store::ModuleRecord;
use burn::train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy, FileCheckpointer,
};
use burn::train::metric::MetricName;
use burn::train::metric::store::{Aggregate, EventStoreClient, Split};
use burn::train::{EarlyStoppingStrategy, Interrupter};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::files;
use crate::metrics::{Quantity, Score};
use crate::renderer::{EpochScores, History};

/// How often epochs are written; a killed run loses about as much.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// The name of the directory below that of the run, as burn has it.
pub(crate) const DIRECTORY: &str = "checkpoint";

const HISTORY: &str = "history.json";

/// What burn calls the three files of an epoch.
const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// The checkpoints below the directory of one run.
pub(crate) struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// Those of the run in `run`.
    pub fn of(run: &Path) -> Self {
        Self { directory: run.join(DIRECTORY) }
    }

    /// The scores of all finished epochs; none when there are none, or they cannot be read.
    pub fn past(&self) -> Vec<EpochScores> {
        let read =
            || serde_json::from_slice::<Saved>(&std::fs::read(self.directory.join(HISTORY)).ok()?).ok()?.scores();
        read().unwrap_or_default()
    }

    /// The last of `epochs` from which training can go on: all of its files can be read.
    pub fn newest(&self, epochs: usize) -> Option<usize> {
        (1..=epochs).rev().find(|epoch| {
            self.load::<ModuleRecord>("model", *epoch).is_ok()
                && self.load::<OptimizerRecord>("optim", *epoch).is_ok()
                && self.load::<LrSchedulerRecord>("scheduler", *epoch).is_ok()
        })
    }

    /// The epoch after which a run of so many in this directory goes on; 0 when it begins at the beginning.
    pub fn goes_on_after(&self, epochs: usize) -> usize {
        self.newest(self.past().len().min(epochs)).unwrap_or(0)
    }

    /// The weights of an epoch.
    ///
    /// # Errors
    /// When they are not there or cannot be read.
    pub fn model(&self, epoch: usize) -> Result<ModuleRecord, Error> {
        self.load("model", epoch).map_err(|source| Error::Training { message: source.to_string() })
    }

    /// Removes what later epochs, and writes that were cut short, have left.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn forget_after(&self, epoch: usize) -> Result<(), Error> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Ok(()) };
        let is_kept = |name: &str| {
            name == HISTORY
                || name.strip_suffix(".bpk").and_then(|name| name.rsplit_once('-')).is_some_and(|(part, number)| {
                    PARTS.contains(&part) && number.parse().is_ok_and(|it: usize| it <= epoch)
                })
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !path.file_name().and_then(|name| name.to_str()).is_some_and(is_kept) {
                std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
            }
        }
        Ok(())
    }

    /// How many epochs a run in this directory has behind it from which it can be taken up again; `None` for none. It is a
    /// glance at the names, and reads no weights.
    pub fn resumable(&self) -> Option<usize> {
        let past = self.past();
        (1..=past.len())
            .rev()
            .find(|epoch| PARTS.iter().all(|part| self.directory.join(format!("{part}-{epoch}.bpk")).exists()))
    }

    fn load<R: Checkpoint>(&self, part: &str, epoch: usize) -> Result<R, CheckpointerError> {
        FileCheckpointer::new(&self.directory, part).restore(epoch)
    }

    fn write(&self, epochs: &[EpochScores]) -> Result<(), Error> {
        files::create_directory(&self.directory)?;
        files::replace_json(&self.directory.join(HISTORY), &Saved::of(epochs))
    }
}

/// Scores as they are written: numbers as the shortest text that means them, which gives the same bits back.
#[derive(Serialize, Deserialize)]
struct Saved {
    schema: u32,
    epochs: Vec<SavedEpoch>,
}

#[derive(Serialize, Deserialize)]
struct SavedEpoch {
    train: BTreeMap<String, String>,
    validation: BTreeMap<String, String>,
}

impl Saved {
    fn of(epochs: &[EpochScores]) -> Self {
        let text = |scores: &BTreeMap<String, f64>| scores.iter().map(|(n, s)| (n.clone(), s.to_string())).collect();
        let epochs =
            epochs.iter().map(|epoch| SavedEpoch { train: text(&epoch.train), validation: text(&epoch.validation) });
        Self { schema: 1, epochs: epochs.collect() }
    }

    fn scores(self) -> Option<Vec<EpochScores>> {
        let numbers = |scores: BTreeMap<String, String>| -> Option<BTreeMap<String, f64>> {
            scores.into_iter().map(|(name, score)| Some((name, score.parse().ok()?))).collect()
        };
        let epochs = self.epochs.into_iter().zip(1..).map(|(saved, epoch)| {
            Some(EpochScores { epoch, train: numbers(saved.train)?, validation: numbers(saved.validation)? })
        });
        if self.schema == 1 { epochs.collect() } else { None }
    }
}

/// The first of the best epochs, counted from 1; `None` when no score is a number.
pub(crate) fn best_epoch(scores: &[f64]) -> Option<usize> {
    let mut best = None;
    for (score, epoch) in scores.iter().zip(1..) {
        if !score.is_nan() && best.is_none_or(|best: usize| *score > scores[best - 1]) {
            best = Some(epoch);
        }
    }
    best
}

/// Whether the last `patience` epochs brought nothing better.
pub(crate) fn is_exhausted(scores: &[f64], patience: usize) -> bool {
    scores.len() - best_epoch(scores).unwrap_or(1).min(scores.len()) >= patience.max(1)
}

/// What the checkpointers of a run have to agree on.
#[derive(Clone, Default)]
pub(crate) struct Writes(Arc<Mutex<Agreed>>);

#[derive(Default)]
struct Agreed {
    /// Epochs that are written when they come, and all that wait with them.
    due: BTreeSet<usize>,
    failed: Option<String>,
}

impl Writes {
    /// Why the last epochs could not be written at the end, where nobody could be told.
    pub fn failure(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Agreed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the three files of an epoch, which waits in memory until it is due, asked for, or the run ends.
pub(crate) struct Resting<R: Checkpoint> {
    files: FileCheckpointer,
    writes: Writes,
    state: Mutex<Held<R>>,
}

struct Held<R> {
    records: Vec<(usize, R)>,
    /// Files that go when what waits is written: until then they are what a killed run goes on from.
    gone: Vec<usize>,
    /// Files that go when all three parts of the epoch beside them are whole.
    stale: Vec<(usize, usize)>,
    /// The epoch that was saved last.
    latest: usize,
}

impl<R: Checkpoint> Resting<R> {
    fn new(directory: &Path, part: &str, writes: &Writes) -> Self {
        let files = FileCheckpointer::new(directory, part);
        Self {
            files,
            writes: writes.clone(),
            state: Mutex::new(Held { records: Vec::new(), gone: Vec::new(), stale: Vec::new(), latest: 0 }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Held<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, held: &mut Held<R>) -> Result<(), CheckpointerError> {
        for (epoch, record) in held.records.drain(..) {
            self.files.save(epoch, record)?;
        }
        let latest = held.latest;
        held.stale.extend(held.gone.drain(..).map(|gone| (latest, gone)));
        Ok(())
    }
}

impl<R: Checkpoint> Checkpointer<R> for Resting<R> {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let mut held = self.state();
        held.records.push((epoch, record));
        held.latest = epoch;
        let is_due = self.writes.lock().due.contains(&epoch);
        if is_due { self.write(&mut held) } else { Ok(()) }
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        let mut held = self.state();
        let before = held.records.len();
        held.records.retain(|(held, _)| *held != epoch);
        if held.records.len() == before {
            match held.records.is_empty() {
                true => Checkpointer::<R>::delete(&self.files, epoch)?,
                false => held.gone.push(epoch),
            }
        }
        // All three parts have taken on the epoch before this deletion, so what was written before that is whole.
        let latest = held.latest;
        held.stale
            .extract_if(.., |(written, _)| *written < latest)
            .try_for_each(|(_, stale)| Checkpointer::<R>::delete(&self.files, stale))
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        self.write(&mut self.state())?;
        self.files.restore(epoch)
    }
}

impl<R: Checkpoint> Drop for Resting<R> {
    fn drop(&mut self) {
        let written = self.write(&mut self.state());
        if let Err(error) = written {
            self.writes.lock().failed.get_or_insert(error.to_string());
        }
    }
}

/// Keeps the best epoch, and the newest one as often as `every` says, until the next is whole.
pub(crate) struct Keep {
    checkpoints: Checkpoints,
    history: History,
    interrupter: Interrupter,
    every: Duration,
    /// When something was last written.
    written: Option<Instant>,
    writes: Writes,
    /// Epochs whose files are there or being written, in order.
    kept: Vec<usize>,
}

impl Keep {
    /// Goes on after `kept`, the epochs that are there.
    pub fn new(
        checkpoints: Checkpoints,
        history: History,
        interrupter: Interrupter,
        every: Duration,
        kept: Vec<usize>,
    ) -> Self {
        // Where there is something to go on from, the first write can wait as well.
        let written = (!kept.is_empty()).then(Instant::now);
        Self { checkpoints, history, interrupter, every, written, writes: Writes::default(), kept }
    }

    /// What writes the weights, the optimizer and the schedule of an epoch.
    pub fn checkpointers(&self) -> (Resting<ModuleRecord>, Resting<OptimizerRecord>, Resting<LrSchedulerRecord>) {
        let (directory, [model, optimizer, scheduler]) = (&self.checkpoints.directory, PARTS);
        (
            Resting::new(directory, model, &self.writes),
            Resting::new(directory, optimizer, &self.writes),
            Resting::new(directory, scheduler, &self.writes),
        )
    }

    /// What they agree on.
    pub fn writes(&self) -> Writes {
        self.writes.clone()
    }

    fn actions(&mut self, epoch: usize, scores: &[f64]) -> Vec<CheckpointingAction> {
        let best = best_epoch(scores);
        let is_due = self.written.is_none_or(|written| written.elapsed() >= self.every);
        if is_due {
            self.written = Some(Instant::now());
            self.writes.lock().due.insert(epoch);
        } else if best != Some(epoch) {
            return Vec::new();
        }
        // Three threads write the files of an epoch. When all of them have taken this one on, the one before is whole, and
        // what is older can go: the deletions are behind the saving in each thread's queue.
        let before = self.kept.last().copied();
        self.kept.push(epoch);
        let needed = |kept: usize| {
            kept == epoch || Some(kept) == best || (Some(kept) == before && (best == Some(epoch) || best.is_none()))
        };
        let (kept, gone): (Vec<usize>, Vec<usize>) = self.kept.iter().partition(|kept| needed(**kept));
        self.kept = kept;
        let delete = gone.into_iter().map(CheckpointingAction::Delete);
        std::iter::once(CheckpointingAction::Save).chain(delete).collect()
    }
}

impl CheckpointingStrategy for Keep {
    fn checkpointing(&mut self, epoch: usize, store: &EventStoreClient) -> Vec<CheckpointingAction> {
        settle(epoch, store);
        let epochs = self.history.epochs();
        if let Err(error) = self.checkpoints.write(&epochs) {
            self.interrupter.fail(CheckpointerError::Unknown(error.to_string()));
        }
        self.actions(epoch, &self.history.scores())
    }
}

/// Stops when validation has not become better for `patience` epochs.
#[derive(Clone)]
pub(crate) struct Patience {
    /// The scores so far.
    pub history: History,
    /// How many epochs.
    pub patience: usize,
}

impl EarlyStoppingStrategy for Patience {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        settle(epoch, store);
        is_exhausted(&self.history.scores(), self.patience)
    }
}

/// Waits until the history has this epoch: burn passes scores on from thread to thread, and answers a question behind them.
fn settle(epoch: usize, store: &EventStoreClient) {
    let score: MetricName = Arc::new(Score::NAME.to_string());
    let _ = store.find_metric(&score, epoch, Aggregate::Mean, &Split::Valid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckpointingAction::{Delete, Save};

    fn keep(every: Duration) -> Keep {
        let checkpoints = Checkpoints { directory: PathBuf::new() };
        Keep::new(checkpoints, History::default(), Interrupter::new(), every, Vec::new())
    }

    #[test]
    fn the_first_of_the_best_epochs_counts_and_patience_ends() {
        let scores = [1.0, 3.0, f64::NAN, 3.0, 2.0];
        assert_eq!(best_epoch(&scores), Some(2));
        assert_eq!(best_epoch(&[f64::NAN]), None);
        assert!(!is_exhausted(&scores, 4));
        assert!(is_exhausted(&scores, 3));
        assert!(!is_exhausted(&[], 1));
        assert!(!is_exhausted(&[1.0], 1));
    }

    #[test]
    fn best_and_newest_are_kept_and_the_one_before_until_the_newest_is_whole() {
        let mut keep = keep(Duration::ZERO);
        let scores = [1.0, 2.0, 3.0, 1.0, 1.0, 4.0];
        let mut actions = |epoch: usize| keep.actions(epoch, &scores[..epoch]);
        assert_eq!(actions(1), [Save]);
        assert_eq!(actions(2), [Save]);
        assert_eq!(actions(3), [Save, Delete(1)]);
        assert_eq!(actions(4), [Save, Delete(2)]);
        assert_eq!(actions(5), [Save, Delete(4)]);
        assert_eq!(actions(6), [Save, Delete(3)]);
    }

    #[test]
    fn between_two_writes_only_a_better_epoch_is_kept() {
        let mut keep = keep(Duration::from_secs(3600));
        let scores = [2.0, 1.0, 3.0, 1.0];
        let mut actions = |epoch: usize| keep.actions(epoch, &scores[..epoch]);
        assert_eq!(actions(1), [Save]);
        assert_eq!(actions(2), []);
        assert_eq!(actions(3), [Save]);
        assert_eq!(actions(4), []);
        assert_eq!(keep.writes.lock().due, BTreeSet::from([1]), "the first one is written");
    }

    fn schedule(rate: f64) -> LrSchedulerRecord {
        use burn::optim::lr_scheduler::LrScheduler;
        let mut schedule = burn::optim::lr_scheduler::constant::ConstantLr::new(rate);
        let _ = schedule.step();
        schedule.to_record()
    }

    #[test]
    fn what_is_not_due_waits_in_memory_and_what_it_replaces_stays_until_then() {
        let directory = tempfile::tempdir().unwrap();
        let writes = Writes::default();
        let resting = Resting::<LrSchedulerRecord>::new(directory.path(), "scheduler", &writes);
        let names = || -> BTreeSet<String> {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let are = |epochs: &[usize]| -> BTreeSet<String> {
            epochs.iter().map(|epoch| format!("scheduler-{epoch}.bpk")).collect()
        };
        writes.lock().due.extend([1, 4]);
        resting.save(1, schedule(0.1)).unwrap();
        assert_eq!(names(), are(&[1]));
        resting.save(2, schedule(0.2)).unwrap();
        resting.delete(1).unwrap();
        resting.save(3, schedule(0.3)).unwrap();
        resting.delete(2).unwrap();
        assert_eq!(names(), are(&[1]), "a killed run goes on from the first");
        resting.save(4, schedule(0.4)).unwrap();
        assert_eq!(names(), are(&[1, 3, 4]), "the other parts may not be whole yet");
        resting.delete(3).unwrap();
        assert_eq!(names(), are(&[1, 4]));
        resting.save(5, schedule(0.5)).unwrap();
        resting.restore(5).unwrap();
        assert_eq!(names(), are(&[1, 4, 5]));
        resting.save(6, schedule(0.6)).unwrap();
        resting.delete(5).unwrap();
        assert_eq!(names(), are(&[4, 5]), "the fourth is whole since the next was taken on");
        drop(resting);
        assert_eq!(names(), are(&[4, 5, 6]), "the end of a run writes what waits");
        assert_eq!(writes.failure(), None);
    }

    #[test]
    fn an_end_that_cannot_write_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let writes = Writes::default();
        let below = directory.path().join("below");
        let resting = Resting::<LrSchedulerRecord>::new(&below, "scheduler", &writes);
        resting.save(1, schedule(0.1)).unwrap();
        std::fs::remove_dir(&below).unwrap();
        drop(resting);
        assert!(writes.failure().is_some());
    }

    #[test]
    fn scores_come_back_to_the_bit() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(directory.path());
        assert!(checkpoints.past().is_empty());
        let scores = |value: f64| BTreeMap::from([("score".to_string(), value), ("loss".to_string(), value / 3.0)]);
        let epoch = |epoch, value| EpochScores { epoch, train: scores(value), validation: scores(0.1 + value) };
        let epochs = vec![epoch(1, 0.1), epoch(2, 1.0 / 7.0), epoch(3, -1e-310)];
        checkpoints.write(&epochs).unwrap();
        assert_eq!(checkpoints.past(), epochs);
        std::fs::write(checkpoints.directory.join("history.json"), "{\"schema\":1").unwrap();
        assert!(checkpoints.past().is_empty());
    }

    #[test]
    fn what_was_cut_short_is_removed_and_never_gone_on_from() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(directory.path());
        checkpoints.write(&[EpochScores::default(), EpochScores::default()]).unwrap();
        let path = |name: &str| checkpoints.directory.join(name);
        for name in ["model-1.bpk", "optim-1.bpk", "model-3.bpk", "model-2.bpk.burn-tmp"] {
            std::fs::write(path(name), "torn").unwrap();
        }
        assert_eq!(checkpoints.resumable(), None);
        std::fs::write(path("scheduler-1.bpk"), "torn").unwrap();
        assert_eq!(checkpoints.resumable(), Some(1));
        assert_eq!(checkpoints.newest(2), None);
        checkpoints.forget_after(1).unwrap();
        assert!(path("model-1.bpk").exists() && path("history.json").exists());
        assert!(!path("model-3.bpk").exists() && !path("model-2.bpk.burn-tmp").exists());
    }
}
