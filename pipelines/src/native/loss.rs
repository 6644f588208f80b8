//! The losses with their derivatives with respect to logits and embeddings.

use rayon::prelude::*;

use super::attention::softmax;
use super::matrix::{dot, exp, total, wide};

/// A mean over rows, and its derivative.
pub(super) struct Loss {
    /// The mean.
    pub value: f64,
    /// The shape of the rows.
    pub gradient: Vec<f32>,
}

/// What a row of logits should say.
pub(super) struct Targets<'a> {
    /// `[rows]`
    pub classes: &'a [u32],
    /// `[rows]`
    pub weights: &'a [f32],
    /// Label smoothing (arXiv 1512.00567).
    pub smoothing: f32,
}

/// Mean weighted cross entropy of `[rows, classes]`.
pub(super) fn cross_entropy(logits: &[f32], classes: usize, targets: &Targets<'_>) -> Loss {
    let rows = targets.classes.len();
    let mut gradient = logits.to_vec();
    let mut value = 0f64;
    let uniform = targets.smoothing / classes as f32;
    wide(|| {
        let rows_of = gradient.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
        for ((row, logits), (&target, &weight)) in rows_of.zip(targets.classes.iter().zip(targets.weights)) {
            let normaliser = log_sum_exp(logits);
            let picked = f64::from(logits[target as usize] - normaliser);
            let mean = logits.iter().map(|logit| f64::from(logit - normaliser)).sum::<f64>() / classes as f64;
            let smoothing = f64::from(targets.smoothing);
            value -= f64::from(weight) * ((1.0 - smoothing) * picked + smoothing * mean);
            softmax(row);
            row.iter_mut().for_each(|p| *p -= uniform);
            row[target as usize] -= 1.0 - targets.smoothing;
            row.iter_mut().for_each(|p| *p *= weight / rows as f32);
        }
    });
    Loss { value: value / rows.max(1) as f64, gradient }
}

/// Mean cross entropy of `[rows, classes]` with one class a row, for many classes: rows in parallel, in the place of the
/// logits.
pub(super) fn cross_entropy_of_many(mut logits: Vec<f32>, classes: usize, targets: &[u32]) -> Loss {
    let share = 1.0 / targets.len().max(1) as f32;
    let values: Vec<f64> = logits
        .par_chunks_exact_mut(classes)
        .zip(targets)
        .map(|(row, target)| {
            wide(|| {
                let target = *target as usize;
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let picked = row[target] - largest;
                row.iter_mut().for_each(|value| *value = exp(*value - largest));
                let sum = total(row);
                let scale = share / sum;
                row.iter_mut().for_each(|value| *value *= scale);
                row[target] -= share;
                f64::from(sum.ln() - picked)
            })
        })
        .collect();
    Loss { value: values.iter().sum::<f64>() / targets.len().max(1) as f64, gradient: logits }
}

#[inline(always)]
fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().map(|value| (value - largest).exp()).sum::<f32>().ln() + largest
}

/// Mean over the rows that have a teacher of `temperature² KL(teacher ‖ student)`, both over the classes that the
/// teacher knows (arXiv 1503.02531; over the old classes as in arXiv 1606.09282). A row of `teacher` that is empty
/// has none.
pub(super) fn distillation(logits: &[f32], classes: usize, teacher: &[&[f32]], temperature: f32) -> Loss {
    let mut gradient = vec![0f32; logits.len()];
    let mut value = 0f64;
    let taught = teacher.iter().filter(|row| !row.is_empty()).count().max(1);
    let rows = gradient.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)).zip(teacher);
    for ((gradient, logits), teacher) in rows {
        let known = teacher.len().min(classes);
        if known == 0 {
            continue;
        }
        let soften = |row: &[f32]| {
            let mut soft: Vec<f32> = row[..known].iter().map(|logit| logit / temperature).collect();
            softmax(&mut soft);
            soft
        };
        let (student, teacher) = (soften(logits), soften(teacher));
        for ((gradient, student), teacher) in gradient.iter_mut().zip(&student).zip(&teacher) {
            let ratio = f64::from(teacher.max(1e-12)).ln() - f64::from(student.max(1e-12)).ln();
            value += f64::from(temperature * temperature) * f64::from(*teacher) * ratio;
            *gradient = temperature * (student - teacher) / taught as f32;
        }
    }
    Loss { value: value / taught as f64, gradient }
}

/// Mean of `1 - cos` between the rows of `[rows, dim]` and unit vectors.
pub(super) fn cosine_distance(rows: &[f32], targets: &[f32], dim: usize) -> Loss {
    let count = rows.len() / dim;
    let mut gradient = vec![0f32; rows.len()];
    let mut value = 0f64;
    for ((gradient, row), target) in
        gradient.chunks_exact_mut(dim).zip(rows.chunks_exact(dim)).zip(targets.chunks_exact(dim))
    {
        let norm = dot(row, row).sqrt() + 1e-9;
        let cosine = dot(row, target) / norm;
        value += f64::from(1.0 - cosine);
        for ((gradient, row), target) in gradient.iter_mut().zip(row).zip(target) {
            *gradient = (cosine * row / norm - target) / (norm * count as f32);
        }
    }
    Loss { value: value / count.max(1) as f64, gradient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_by_hand() {
        let targets = |smoothing| Targets { classes: &[0, 1], weights: &[1.0, 1.0], smoothing };
        let logits = [0.0, 0.0, 2.0, 0.0];
        // ln 2 and ln(1 + e^2), halved.
        let expected = (2f64.ln() + (1.0 + 2f64.exp()).ln()) / 2.0;
        let loss = cross_entropy(&logits, 2, &targets(0.0));
        assert!((loss.value - expected).abs() < 1e-6);
        assert!((loss.gradient[0] + 0.25).abs() < 1e-6, "{:?}", loss.gradient);
        // Smoothing moves half of 0.2 to the other class: mean log p of both.
        let uniform = (2f64.ln() + ((1.0 + 2f64.exp()).ln() + (1.0 + (-2f64).exp()).ln()) / 2.0) / 2.0;
        let smooth = cross_entropy(&logits, 2, &targets(0.2)).value;
        assert!((smooth - (0.8 * expected + 0.2 * uniform)).abs() < 1e-6, "{smooth}");
    }

    #[test]
    fn many_classes_cost_what_few_do() {
        let logits: Vec<f32> = (0..3 * 50).map(|n| ((n * 7) % 13) as f32 / 3.0 - 2.0).collect();
        let targets = Targets { classes: &[4, 0, 49], weights: &[1.0; 3], smoothing: 0.0 };
        let (few, many) = (cross_entropy(&logits, 50, &targets), cross_entropy_of_many(logits, 50, targets.classes));
        assert!((few.value - many.value).abs() < 1e-5, "{} {}", few.value, many.value);
        assert!(few.gradient.iter().zip(&many.gradient).all(|(few, many)| (few - many).abs() < 1e-6));
    }

    #[test]
    fn a_student_like_its_teacher_has_nothing_to_learn() {
        let logits = [1.0, 2.0, 9.0, 0.5, 0.5, 0.0];
        let same = distillation(&logits, 3, &[&[1.0, 2.0], &[]], 2.0);
        assert!(same.value.abs() < 1e-9 && same.gradient.iter().all(|gradient| gradient.abs() < 1e-7));
        // Teacher (1/2, 1/2), student (e, 1)/(1 + e) at temperature 1: KL by hand; the new class takes no part.
        let loss = distillation(&[1.0, 0.0, 7.0], 3, &[&[0.0, 0.0]], 1.0);
        let p = 1f64.exp() / (1.0 + 1f64.exp());
        let expected = 0.5 * (0.5 / p).ln() + 0.5 * (0.5 / (1.0 - p)).ln();
        assert!((loss.value - expected).abs() < 1e-6, "{}", loss.value);
        assert_eq!(loss.gradient[2], 0.0);
    }

    #[test]
    fn cosine_distance_by_hand() {
        // Cosines 1/sqrt(2) and 1.
        let loss = cosine_distance(&[1.0, 1.0, 0.0, 3.0], &[1.0, 0.0, 0.0, 1.0], 2);
        assert!((loss.value - (1.0 - (0.5f64.sqrt() + 1.0) / 2.0)).abs() < 1e-6);
    }
}
