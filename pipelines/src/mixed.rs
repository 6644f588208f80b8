//! Texts and questions in one run: the encoder learns both at once, so that neither is forgotten for the other.
//!
//! The windows of all passes over the questions are spread evenly over the epochs of the texts. Without questions the
//! order of the texts is exactly what it is alone.

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::batch::{Batch, EncodedExample, Order, Ragged, plan, shuffle};
use crate::dropout::split_mix;
use crate::metrics::JointOutput;
use crate::windows::{AnswerWindow, WindowBatch};

/// Tells the orders of windows from those of texts.
const WINDOW_STREAM: u64 = 0x5175_6573_7469_6F6E;

/// What one step sees.
#[derive(Clone, Debug)]
pub enum Mixed {
    /// Texts with function and arguments.
    Texts(Box<Batch>),
    /// Questions with their passages.
    Windows(Box<WindowBatch>),
}

impl Mixed {
    /// The tokens of either.
    pub fn ragged(&self) -> &Ragged {
        match self {
            Self::Texts(batch) => &batch.ragged,
            Self::Windows(batch) => &batch.ragged,
        }
    }

    /// How many examples or questions there are.
    pub fn counted(&self) -> JointOutput {
        match self {
            Self::Texts(batch) => JointOutput { examples: batch.functions.len(), ..JointOutput::default() },
            Self::Windows(batch) => JointOutput { questions: batch.starts.len(), ..JointOutput::default() },
        }
    }
}

/// Windows and how often they are seen in the whole run.
#[derive(Clone, Debug, Default)]
pub struct WindowRun {
    /// The windows.
    pub windows: Vec<AnswerWindow>,
    /// Passes over them.
    pub passes: usize,
    /// Epochs of the texts that the passes are spread over.
    pub epochs: usize,
    /// Windows in a batch.
    pub batch_size: usize,
}

impl WindowRun {
    /// Batches in the whole run.
    pub fn batches(&self) -> usize {
        self.windows.len().div_ceil(self.batch_size.max(1)) * self.passes
    }

    /// The batches of `epoch`.
    fn plan(&self, epoch: u64, order: Order) -> Vec<Vec<usize>> {
        let lengths: Vec<usize> = self.windows.iter().map(|window| window.input_ids.len()).collect();
        let batch_size = self.batch_size.max(1);
        let Order::Shuffled { seed } = order else { return plan(&lengths, batch_size, order, 0) };
        let order = Order::Shuffled { seed: seed ^ WINDOW_STREAM };
        let (epochs, per_pass) = (self.epochs.max(1), self.windows.len().div_ceil(batch_size));
        let place = |epoch: usize| self.batches() * epoch.min(epochs) / epochs;
        let (from, to) = (place(epoch as usize), place(epoch as usize + 1));
        let mut batches = Vec::with_capacity(to - from);
        for pass in 0..self.passes {
            let first = pass * per_pass;
            let (start, end) = (from.max(first), to.min(first + per_pass));
            if start < end {
                let planned = plan(&lengths, batch_size, order, pass as u64);
                batches.extend_from_slice(&planned[start - first..end - first]);
            }
        }
        batches
    }
}

/// Feeds burn's learner with both.
#[derive(Clone)]
pub struct MixedLoader {
    texts: Arc<Vec<EncodedExample>>,
    windows: Arc<WindowRun>,
    batch_size: usize,
    order: Order,
    epoch: Arc<AtomicU64>,
}

enum Step {
    Texts(Vec<usize>),
    Windows(Vec<usize>),
}

impl MixedLoader {
    /// A loader whose first epoch is epoch 0; `batch_size` is that of the texts.
    pub fn new(texts: Vec<EncodedExample>, windows: WindowRun, batch_size: usize, order: Order) -> Self {
        Self {
            texts: Arc::new(texts),
            windows: Arc::new(windows),
            batch_size: batch_size.max(1),
            order,
            epoch: Arc::default(),
        }
    }

    /// The same loader, with `epochs` epochs behind it.
    pub fn after(self, epochs: usize) -> Self {
        self.epoch.store(epochs as u64, Ordering::Relaxed);
        self
    }

    /// Batches of texts in one epoch.
    pub fn text_batches(&self) -> usize {
        self.texts.len().div_ceil(self.batch_size)
    }

    fn plan(&self, epoch: u64) -> Vec<Step> {
        let lengths: Vec<usize> = self.texts.iter().map(|text| text.input_ids.len()).collect();
        let mut steps: Vec<Step> =
            plan(&lengths, self.batch_size, self.order, epoch).into_iter().map(Step::Texts).collect();
        let windows = self.windows.plan(epoch, self.order);
        if let (Order::Shuffled { seed }, false) = (self.order, windows.is_empty()) {
            steps.extend(windows.into_iter().map(Step::Windows));
            shuffle(&mut steps, &mut (seed ^ split_mix(epoch ^ WINDOW_STREAM)));
        } else {
            steps.extend(windows.into_iter().map(Step::Windows));
        }
        steps
    }
}

impl DataLoader<Mixed> for MixedLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Mixed> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Box::new(MixedIterator { loader: self, plan: self.plan(epoch).into_iter(), items: 0, epoch, batch: 0 })
    }

    fn num_items(&self) -> usize {
        let windows = self.windows.windows.len();
        let windows = match self.order {
            Order::Fixed => windows,
            Order::Shuffled { .. } => (windows * self.windows.passes).div_ceil(self.windows.epochs.max(1)),
        };
        self.texts.len() + windows
    }

    fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<Mixed>> {
        Arc::new(self.clone())
    }

    /// A stretch of the texts, for a learner on several devices, which Mynah does not use; windows stay whole.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Mixed>> {
        let end = end.min(self.texts.len());
        Arc::new(Self { texts: Arc::new(self.texts[start.min(end)..end].to_vec()), ..self.clone() })
    }
}

struct MixedIterator<'a> {
    loader: &'a MixedLoader,
    plan: std::vec::IntoIter<Step>,
    items: usize,
    epoch: u64,
    batch: u64,
}

impl Iterator for MixedIterator<'_> {
    type Item = Result<Mixed, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let loader = self.loader;
        let step = self.plan.next()?;
        // Epochs have fewer than 2^32 batches.
        let number = (self.epoch << 32) | self.batch;
        self.batch += 1;
        Some(Ok(match step {
            Step::Texts(indices) => {
                self.items += indices.len();
                let texts: Vec<&EncodedExample> = indices.iter().map(|index| &loader.texts[*index]).collect();
                let mut batch = Batch::new(&texts);
                batch.ragged.number = number;
                Mixed::Texts(Box::new(batch))
            }
            Step::Windows(indices) => {
                self.items += indices.len();
                let windows: Vec<&AnswerWindow> = indices.iter().map(|index| &loader.windows.windows[*index]).collect();
                let mut batch = WindowBatch::new(&windows);
                batch.ragged.number = number;
                Mixed::Windows(Box::new(batch))
            }
        }))
    }
}

impl DataLoaderIterator<Mixed> for MixedIterator<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.items, self.loader.num_items(), Some("examples".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(count: usize) -> Vec<EncodedExample> {
        let text = |n: usize| EncodedExample::plain(vec![1; 3 + n % 5], 0);
        (0..count).map(text).collect()
    }

    fn run(count: usize, passes: usize, epochs: usize) -> WindowRun {
        let window =
            |n: usize| AnswerWindow { input_ids: vec![1; 5 + n % 11], start: 0, end: 0, embedding: Vec::new() };
        WindowRun { windows: (0..count).map(window).collect(), passes, epochs, batch_size: 4 }
    }

    fn parts(steps: Vec<Step>) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let (mut texts, mut windows) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Texts(batch) => texts.push(batch),
                Step::Windows(batch) => windows.push(batch),
            }
        }
        (texts, windows)
    }

    #[test]
    fn every_window_is_seen_once_a_pass_over_all_epochs() {
        let order = Order::Shuffled { seed: 9 };
        let loader = MixedLoader::new(texts(50), run(45, 2, 7), 8, order);
        let mut seen = vec![0; 45];
        let mut most = 0;
        for epoch in 0..7 {
            let (texts, windows) = parts(loader.plan(epoch));
            assert_eq!(texts.iter().flatten().count(), 50);
            most = most.max(windows.len());
            windows.into_iter().flatten().for_each(|window| seen[window] += 1);
        }
        assert!(seen.iter().all(|times| *times == 2), "{seen:?}");
        // 24 batches over 7 epochs.
        assert_eq!(most, 4);
        assert!(parts(loader.plan(7)).1.is_empty());
    }

    #[test]
    fn texts_alone_come_in_the_order_they_always_did() {
        let order = Order::Shuffled { seed: 1 };
        let loader = MixedLoader::new(texts(103), WindowRun::default(), 8, order);
        let lengths: Vec<usize> = texts(103).iter().map(|text| text.input_ids.len()).collect();
        assert_eq!(parts(loader.plan(3)).0, plan(&lengths, 8, order, 3));
        assert_eq!(loader.num_items(), 103);
    }

    #[test]
    fn questions_alone_are_a_run_too() {
        let order = Order::Shuffled { seed: 1 };
        let loader = MixedLoader::new(Vec::new(), run(10, 1, 1), 8, order);
        assert_eq!(parts(loader.plan(0)).1.len(), 3);
        let fixed = MixedLoader::new(Vec::new(), run(10, 1, 1), 8, Order::Fixed);
        assert_eq!(fixed.iter().count(), 3);
    }
}
