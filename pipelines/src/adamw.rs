//! AdamW in one pass over the weights (arXiv 1711.05101), as an optimizer of burn's.
//!
//! burn's own makes a tensor for every term. This one clips, updates both moments and moves the weight while a number
//! is in a register, over all cores. Weights on another device are moved there, by the same formulas on tensors. Optionally
//! it pulls towards where training started (L2-SP, arXiv 1802.01483).

use burn::optim::{AdaptiveMomentumState, LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::device::{host, is_host};
use crate::native::{dot, wide};
use crate::settings::TrainingSettings;

/// Weights that one task updates.
const SPAN: usize = 16_384;

/// The optimizer; its update does not depend on how many threads take part.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Decoupled pull towards the weights that training started from.
    pub start_decay: f32,
    /// Largest gradient norm of one tensor; larger ones are scaled down to it.
    pub gradient_clip: f32,
}

impl AdamW {
    /// As settings have it, with the usual decays of the moments.
    pub fn of(settings: &TrainingSettings) -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: settings.weight_decay,
            start_decay: settings.start_decay,
            gradient_clip: settings.gradient_clip,
        }
    }
}

/// burn's own, so that its records hold it; the third tensor, which AdamW has no use for, is the start that pulls.
///
/// A record is read into this process's memory, and moved to the weight's device by the first step: burn would read it on
/// the device that it takes for the best of those compiled in, whether or not it is there.
#[derive(Clone)]
pub struct Moments<const D: usize>(AdaptiveMomentumState<D>);

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.0.state_flatten(prefix, out);
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, _default: &Device) -> Option<Self> {
        AdaptiveMomentumState::state_unflatten(prefix, source, &host()).map(Self)
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let state = state.map(|Moments(state)| state);
        let (tensor, state) = match is_host(&tensor.device()) {
            true => self.step_here(learning_rate, tensor, gradient, state),
            false => self.step_there(learning_rate, tensor, gradient, state),
        };
        (tensor, Some(Moments(state)))
    }

    fn to_device<const D: usize>(Moments(state): Moments<D>, device: &Device) -> Moments<D> {
        Moments(state.to_device(device))
    }
}

#[derive(Clone, Copy)]
struct Step {
    learning_rate: f32,
    time: usize,
}

impl AdamW {
    /// In this process's memory.
    fn step_here<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, AdaptiveMomentumState<D>) {
        let device = tensor.device();
        let start = match (&state, self.start_decay > 0.0) {
            (Some(state), _) => state.max_moment_2.clone(),
            (None, true) => Some(tensor.clone()),
            (None, false) => None,
        };
        let shape = tensor.shape();
        let zeros = || TensorData::zeros::<f32, _>(shape.clone());
        let (time, mut first, mut second) = match state {
            Some(state) => (state.time + 1, state.moment_1.into_data(), state.moment_2.into_data()),
            None => (1, zeros(), zeros()),
        };
        let gradient = gradient.into_data();
        let mut weight = tensor.into_data();
        let origin = start.clone().map(Tensor::into_data);
        self.update(
            &mut weight,
            &gradient,
            (&mut first, &mut second),
            origin.as_ref(),
            Step { learning_rate: learning_rate as f32, time },
        );
        let tensor = |data: TensorData| Tensor::from_data(data, &device);
        let mut state = AdaptiveMomentumState::new(time, tensor(first), tensor(second));
        state.max_moment_2 = start;
        (tensor(weight), state)
    }

    /// The same on tensors, wherever they lie: nothing is read.
    fn step_there<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, AdaptiveMomentumState<D>) {
        let Self { beta_1, beta_2, epsilon, .. } = *self;
        let (time, first, second, start) = match state {
            Some(state) => (state.time + 1, state.moment_1, state.moment_2, state.max_moment_2),
            None => {
                let start = (self.start_decay > 0.0).then(|| tensor.clone());
                (1, tensor.zeros_like(), tensor.zeros_like(), start)
            }
        };
        let learning_rate = learning_rate as f32;
        let norm = (gradient.clone() * gradient.clone()).sum().sqrt();
        let scale = norm.clamp_min(self.gradient_clip.max(f32::MIN_POSITIVE)).recip() * self.gradient_clip;
        let gradient = gradient * scale.reshape([1; D]);
        let first = first * beta_1 + gradient.clone() * (1.0 - beta_1);
        let second = second * beta_2 + gradient.clone() * gradient * (1.0 - beta_2);
        let correction_1 = 1.0 - beta_1.powi(time as i32);
        let root_2 = (1.0 - beta_2.powi(time as i32)).sqrt();
        let mut weight = tensor;
        if let Some(start) = &start {
            weight = weight.clone() - (weight - start.clone()) * (learning_rate * self.start_decay);
        }
        let moved = first.clone() * (learning_rate / correction_1) / (second.clone().sqrt() / root_2 + epsilon);
        let weight = weight * (1.0 - learning_rate * self.weight_decay) - moved;
        let mut state = AdaptiveMomentumState::new(time, first, second);
        state.max_moment_2 = start;
        (weight, state)
    }

    fn update(
        &self,
        weight: &mut TensorData,
        gradient: &TensorData,
        (first, second): (&mut TensorData, &mut TensorData),
        start: Option<&TensorData>,
        Step { learning_rate, time }: Step,
    ) {
        const F32: &str = "weights and gradients are f32";
        let gradient = gradient.as_slice::<f32>().expect(F32);
        let weight = weight.as_mut_slice::<f32>().expect(F32);
        let (first, second) = (first.as_mut_slice::<f32>().expect(F32), second.as_mut_slice::<f32>().expect(F32));
        let start = start.map(|start| start.as_slice::<f32>().expect(F32));
        let squares: Vec<f32> = gradient.par_chunks(SPAN).map(|span| wide(|| dot(span, span))).collect();
        let norm = squares.iter().sum::<f32>().sqrt();
        let scale = if norm > self.gradient_clip { self.gradient_clip / norm } else { 1.0 };
        let Self { beta_1, beta_2, epsilon, .. } = *self;
        let correction_1 = 1.0 - beta_1.powi(time as i32);
        let root_2 = (1.0 - beta_2.powi(time as i32)).sqrt();
        let rate = learning_rate / correction_1;
        let (keep, pull) = (1.0 - learning_rate * self.weight_decay, learning_rate * self.start_decay);
        let spans = (
            weight.par_chunks_mut(SPAN),
            gradient.par_chunks(SPAN),
            first.par_chunks_mut(SPAN),
            second.par_chunks_mut(SPAN),
        );
        spans.into_par_iter().enumerate().for_each(|(span, (weight, gradient, first, second))| {
            wide(|| {
                if let Some(start) = start {
                    let start = &start[span * SPAN..][..weight.len()];
                    weight.iter_mut().zip(start).for_each(|(weight, start)| *weight -= pull * (*weight - start));
                }
                for (((weight, gradient), first), second) in weight.iter_mut().zip(gradient).zip(first).zip(second) {
                    let gradient = gradient * scale;
                    *first = beta_1 * *first + (1.0 - beta_1) * gradient;
                    *second = beta_2 * *second + (1.0 - beta_2) * gradient * gradient;
                    *weight = *weight * keep - rate * *first / (second.sqrt() / root_2 + epsilon);
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};

    #[derive(Module, Debug)]
    struct One {
        weight: Param<Tensor<1>>,
    }

    fn run(mut optimizer: ModuleOptimizer, gradients: &[[f32; 3]]) -> Vec<f32> {
        let device = Device::flex().autodiff();
        let weight = Tensor::<1>::from_data([0.5, -2.0, 3.0], &device);
        let mut module = One { weight: Param::from_tensor(weight) };
        for gradient in gradients {
            let mut params = GradientsParams::new();
            params.register(module.weight.id, Tensor::<1>::from_data(*gradient, &device.clone().inner()));
            module = optimizer.step(0.1, module, params);
        }
        module.weight.val().into_data().iter::<f32>().collect()
    }

    fn ours(start_decay: f32) -> AdamW {
        AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01, start_decay, gradient_clip: 1.0 }
    }

    #[test]
    fn moves_as_burns_own_does() {
        use burn::grad_clipping::GradientClippingConfig;
        let gradients = [[0.1, -0.2, 0.3], [3.0, 4.0, 0.0], [-0.5, 0.0, 0.1], [0.2, 0.2, 0.2]];
        let theirs = AdamWConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(0.01)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
            .init();
        let (a, b) = (run(ours(0.0).into(), &gradients), run(theirs, &gradients));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn tensors_move_as_numbers_do() {
        let device = host();
        let optimizer = ours(0.3);
        let weight = || Tensor::<2>::from_data([[0.5, -2.0, 3.0], [1.0, 0.0, -0.1]], &device);
        let ((mut here, mut its), (mut there, mut theirs)) = ((weight(), None), (weight(), None));
        // A gradient that is clipped, and one that is not.
        for gradient in [[[3.0, 4.0, 0.0], [1.0, -2.0, 0.5]], [[0.1, -0.2, 0.3], [0.0, 0.2, -0.1]]] {
            let gradient = Tensor::<2>::from_data(gradient, &device);
            let (weight, state) = optimizer.step_here(0.1, here, gradient.clone(), its);
            (here, its) = (weight, Some(state));
            let (weight, state) = optimizer.step_there(0.1, there, gradient, theirs);
            (there, theirs) = (weight, Some(state));
        }
        let near = |a: Tensor<2>, b: Tensor<2>| {
            let (a, b) = (a.into_data().try_to_vec::<f32>().unwrap(), b.into_data().try_to_vec::<f32>().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
        };
        near(here, there);
        let (its, theirs) = (its.unwrap(), theirs.unwrap());
        assert_eq!(its.time, theirs.time);
        near(its.moment_1, theirs.moment_1);
        near(its.moment_2, theirs.moment_2);
        near(its.max_moment_2.unwrap(), theirs.max_moment_2.unwrap());
    }

    #[test]
    fn the_start_pulls() {
        let gradients = [[1.0, 1.0, 1.0]; 20];
        let moved = |weights: Vec<f32>| (weights[0] - 0.5).abs();
        assert!(moved(run(ours(0.5).into(), &gradients)) < moved(run(ours(0.0).into(), &gradients)));
    }
}
