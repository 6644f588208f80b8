//! Metrics of a training run in burn-train's form: loss, function accuracy, exact match, and the
//! score that chooses the best epoch.

use burn::tensor::TensorReadError;
use burn::train::ItemLazy;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use std::marker::PhantomData;
use std::sync::Arc;

/// What a step of training or validation yields.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JointOutput {
    /// Mean loss of the batch, in nats.
    pub loss: f64,
    /// Questions in the batch, which then has no examples.
    pub questions: usize,
    /// Questions whose span is right to the token.
    pub spans_right: usize,
    /// Examples in the batch.
    pub examples: usize,
    /// Examples whose function is right.
    pub functions_right: usize,
    /// Examples whose function and every argument tag are right.
    pub exact: usize,
}

impl ItemLazy for JointOutput {
    fn sync(self) -> Result<Self, burn::tensor::ExecutionError> {
        Ok(self)
    }
}

/// One number of a [`JointOutput`].
pub trait Quantity: Clone + Send + Sync + 'static {
    /// Name of the metric.
    const NAME: &'static str;
    /// Unit, if it has one.
    const UNIT: Option<&'static str>;
    /// Whether more is better.
    const HIGHER_IS_BETTER: bool;
    /// The number for one batch.
    fn of(output: &JointOutput) -> f64;
    /// How much the batch counts.
    fn weight(output: &JointOutput) -> usize;
}

/// Mean loss, in nats.
#[derive(Clone, Debug)]
pub struct Loss;
/// Share of examples with the right function, in percent.
#[derive(Clone, Debug)]
pub struct FunctionAccuracy;
/// Share of examples with the right function and every argument tag right, in percent.
#[derive(Clone, Debug)]
pub struct ExactMatch;
/// Share of questions whose span is right to the token, in percent.
#[derive(Clone, Debug)]
pub struct SpanMatch;
/// Exact match, or span match, in percent less the loss in nats: the loss decides between epochs that are about
/// equally exact, as they are on a small validation set.
#[derive(Clone, Debug)]
pub struct Score;

fn percent(right: usize, total: usize) -> f64 {
    100.0 * right as f64 / total.max(1) as f64
}

impl Quantity for Loss {
    const NAME: &'static str = "loss";
    const UNIT: Option<&'static str> = None;
    const HIGHER_IS_BETTER: bool = false;
    fn of(output: &JointOutput) -> f64 {
        output.loss
    }
    fn weight(output: &JointOutput) -> usize {
        output.examples + output.questions
    }
}

impl Quantity for FunctionAccuracy {
    const NAME: &'static str = "function accuracy";
    const UNIT: Option<&'static str> = Some("%");
    const HIGHER_IS_BETTER: bool = true;
    fn of(output: &JointOutput) -> f64 {
        percent(output.functions_right, output.examples)
    }
    fn weight(output: &JointOutput) -> usize {
        output.examples
    }
}

impl Quantity for ExactMatch {
    const NAME: &'static str = "exact match";
    const UNIT: Option<&'static str> = Some("%");
    const HIGHER_IS_BETTER: bool = true;
    fn of(output: &JointOutput) -> f64 {
        percent(output.exact, output.examples)
    }
    fn weight(output: &JointOutput) -> usize {
        output.examples
    }
}

impl Quantity for SpanMatch {
    const NAME: &'static str = "span match";
    const UNIT: Option<&'static str> = Some("%");
    const HIGHER_IS_BETTER: bool = true;
    fn of(output: &JointOutput) -> f64 {
        percent(output.spans_right, output.questions)
    }
    fn weight(output: &JointOutput) -> usize {
        output.questions
    }
}

impl Quantity for Score {
    const NAME: &'static str = "score";
    const UNIT: Option<&'static str> = None;
    const HIGHER_IS_BETTER: bool = true;
    fn of(output: &JointOutput) -> f64 {
        percent(output.exact + output.spans_right, output.examples + output.questions) - output.loss
    }
    fn weight(output: &JointOutput) -> usize {
        output.examples + output.questions
    }
}

/// Input of a [`Mean`].
pub struct MeanInput<Q> {
    value: f64,
    weight: usize,
    quantity: PhantomData<Q>,
}

macro_rules! adapt {
    ($($quantity:ty),*) => {$(
        impl Adaptor<MeanInput<$quantity>> for JointOutput {
            fn adapt(&self) -> MeanInput<$quantity> {
                MeanInput {
                    value: <$quantity>::of(self),
                    weight: <$quantity>::weight(self),
                    quantity: PhantomData,
                }
            }
        }
    )*};
}
adapt!(Loss, FunctionAccuracy, ExactMatch, SpanMatch, Score);

/// The mean of a quantity over the examples of an epoch.
#[derive(Clone)]
pub struct Mean<Q> {
    name: MetricName,
    state: NumericMetricState,
    quantity: PhantomData<Q>,
}

impl<Q: Quantity> Mean<Q> {
    /// A metric that has seen nothing.
    pub fn new() -> Self {
        Self { name: Arc::new(Q::NAME.to_string()), state: NumericMetricState::default(), quantity: PhantomData }
    }

    fn format(&self) -> FormatOptions {
        let format = FormatOptions::new(self.name.clone()).precision(3);
        match Q::UNIT {
            Some(unit) => format.unit(unit),
            None => format,
        }
    }
}

impl<Q: Quantity> Default for Mean<Q> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q: Quantity> Metric for Mean<Q> {
    type Input = MeanInput<Q>;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: Q::UNIT.map(str::to_string), higher_is_better: Q::HIGHER_IS_BETTER }.into()
    }

    fn update(&mut self, input: &Self::Input, _metadata: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        self.state.update(input.value, input.weight);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl<Q: Quantity> Numeric for Mean<Q> {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean<Q: Quantity>(outputs: &[JointOutput]) -> f64
    where
        JointOutput: Adaptor<MeanInput<Q>>,
    {
        let mut metric = Mean::<Q>::new();
        let metadata = MetricMetadata {
            progress: burn::data::dataloader::Progress::new(1, 1, None),
            iteration: Some(0),
            lr: None,
        };
        for output in outputs {
            assert!(metric.update(&output.adapt(), &metadata).is_ok());
        }
        metric.final_value().current()
    }

    #[test]
    fn batches_count_by_their_size() {
        let outputs = [
            JointOutput { loss: 0.5, examples: 4, functions_right: 4, exact: 2, ..JointOutput::default() },
            JointOutput { loss: 1.0, examples: 1, ..JointOutput::default() },
        ];
        assert_eq!(mean::<FunctionAccuracy>(&outputs), 80.0);
        assert_eq!(mean::<ExactMatch>(&outputs), 40.0);
        assert!((mean::<Loss>(&outputs) - 0.6).abs() < 1e-12);
        assert!((mean::<Score>(&outputs) - 39.4).abs() < 1e-12);
        // Five questions, one right: they count in loss and score, and not in what is said of functions.
        let questions = JointOutput { loss: 1.6, questions: 5, spans_right: 1, ..JointOutput::default() };
        let mixed = [questions, outputs[0], outputs[1]];
        assert_eq!(mean::<FunctionAccuracy>(&mixed), 80.0);
        assert_eq!(mean::<SpanMatch>(&mixed), 20.0);
        assert!((mean::<Score>(&mixed) - (39.4 + 18.4) / 2.0).abs() < 1e-12);
    }
}
