//! The learning rate over the steps of a run.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};

/// Rises linearly from 0 to `peak` over `warmup_steps`, then falls linearly to 0 at `total_steps`
/// (`get_linear_schedule_with_warmup` in Hugging Face's `optimization.py`).
#[derive(Clone, Copy, Debug)]
pub struct WarmupLinear {
    peak: f64,
    warmup_steps: usize,
    total_steps: usize,
    step: usize,
}

impl WarmupLinear {
    /// A schedule at its first step.
    pub fn new(peak: f64, warmup_ratio: f64, total_steps: usize) -> Self {
        let warmup_steps = (total_steps as f64 * warmup_ratio.clamp(0.0, 1.0)).round() as usize;
        Self { peak, warmup_steps, total_steps, step: 0 }
    }

    fn rate(&self, step: usize) -> f64 {
        if step <= self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps.max(1) as f64;
        }
        let left = (self.total_steps + 1).saturating_sub(step) as f64;
        self.peak * left / (self.total_steps + 1 - self.warmup_steps).max(1) as f64
    }
}

impl LrScheduler for WarmupLinear {
    fn step(&mut self) -> f64 {
        self.step += 1;
        self.rate(self.step)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("step", self.step as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(step) = record.scalar::<u64>("step") {
            self.step = step as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls() {
        let mut schedule = WarmupLinear::new(1.0, 0.25, 8);
        let rates: Vec<f64> = (0..8).map(|_| schedule.step()).collect();
        let expected = [0.5, 1.0, 6.0 / 7.0, 5.0 / 7.0, 4.0 / 7.0, 3.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn a_record_continues_where_it_was_taken() {
        let mut schedule = WarmupLinear::new(1.0, 0.1, 20);
        for _ in 0..5 {
            schedule.step();
        }
        let mut resumed = WarmupLinear::new(1.0, 0.1, 20);
        resumed.load_record(schedule.to_record());
        assert_eq!(schedule.step(), resumed.step());
    }
}
