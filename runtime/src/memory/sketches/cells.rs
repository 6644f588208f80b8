//! Rows that are near each other lie together, so that a search need not look at all of them.
//!
//! An inverted file (Jégou, Douze & Schmid, Product quantization for nearest neighbor search, 2011, section IV, doi
//! 10.1109/TPAMI.2010.57) without its codes: the rows of a cell are near its centre, and a search looks into the cells whose
//! centres are nearest to what it searches. Centres are rows, evenly picked, moved once to the mean of the sampled rows that are
//! nearest to them (one step of Lloyd's): more steps gain nothing measurable.
//!
//! Invariants: every row has one place. The places of a cell begin with a block, and so may end with places of no row.
//! Cells depend on the rows alone.

use std::ops::Range;

use super::kernels::{self, LANES, Word};
use super::{Probe, TASK_ROWS, part_rows, set_bits};
use crate::encoder::Helpers;
use crate::rows::{Query, Rows};

/// The number of a row that is none.
pub(super) const NONE: u32 = u32::MAX;
/// Rows below which looking at all of them costs as little as choosing among cells.
const FEW: usize = 32_768;
/// Rows of a cell, about.
const CELL_ROWS: usize = 32;
/// The most cells: every row is compared with all of them once, and every query.
const MOST: usize = 8192;
/// Rows that are looked at, at least, and at least one in so many.
const SEARCHED: usize = 4096;
const SEARCHED_OF: usize = 24;
/// Sampled rows by which a centre is moved, about.
const SAMPLE: usize = 16;
/// A row is compared with the centres whose sketches differ in so many bits a word more than the one that differs least.
const COMPARED_BITS: u16 = 2;

/// Where the rows of each cell are.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    rows: usize,
    /// The sketches of the centres; none where all cells are always looked at.
    ///
    /// # Shapes
    /// `[cells / LANES, words, LANES]`
    centres: Vec<u64>,
    places: Vec<Range<usize>>,
}

impl Cells {
    /// The cells of some rows, and the number of the row at every place.
    ///
    /// # Shapes
    /// `bits`: `[rows, words]`, `centre`: `[dim]`; the numbers: `[places]`
    pub fn of(rows: &Rows, bits: &[u64], centre: &[f32], helpers: Helpers) -> (Self, Vec<u32>) {
        if rows.len() < FEW {
            return Self::in_order(rows.len());
        }
        let mut centres = Centres::picked(rows, centre);
        let sample: Vec<u32> =
            (0..rows.len() as u32).step_by(rows.len().div_ceil(SAMPLE * centres.rows.len())).collect();
        let nearest = centres.nearest(rows, bits, &sample, helpers);
        centres.move_to(rows, &sample, &nearest, centre);
        let every: Vec<u32> = (0..rows.len() as u32).collect();
        let nearest = centres.nearest(rows, bits, &every, helpers);
        let mut cells = vec![Vec::new(); centres.rows.len()];
        every.iter().zip(nearest).for_each(|(number, cell)| cells[usize::from(cell)].push(*number));
        let (mut numbers, mut places) = (Vec::with_capacity(rows.len() + cells.len() * LANES), Vec::new());
        for cell in cells {
            places.push(numbers.len()..numbers.len() + cell.len());
            numbers.extend(cell);
            numbers.resize(numbers.len().next_multiple_of(LANES), NONE);
        }
        (Self { rows: rows.len(), centres: centres.bits, places }, numbers)
    }

    /// Few rows stay as they are.
    fn in_order(rows: usize) -> (Self, Vec<u32>) {
        let places = (0..rows).step_by(TASK_ROWS).map(|first| first..rows.min(first + TASK_ROWS)).collect();
        let mut numbers: Vec<u32> = (0..rows as u32).collect();
        numbers.resize(rows.next_multiple_of(LANES), NONE);
        (Self { rows, places, ..Self::default() }, numbers)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The places of the cells whose centres differ in the fewest bits, with twice `count` rows at least where there are so many.
    ///
    /// # Shapes
    /// `probe`: `[words]`
    pub fn near(&self, probe: &Probe, count: usize) -> Vec<Range<usize>> {
        if self.centres.is_empty() {
            return self.places.clone();
        }
        let wanted = SEARCHED.max(self.rows / SEARCHED_OF).max(4 * count).min(self.rows);
        let mut distances = vec![0; self.centres.len() / probe.len()];
        // One word a page.
        self.centres.chunks(512).for_each(kernels::ask_for_page);
        kernels::compare(&self.centres, probe, &mut distances);
        let distances = &distances[..self.places.len()];
        let limit = kernels::limit(distances, (wanted * self.places.len()).div_ceil(self.rows));
        let mut near = Vec::with_capacity(distances.len());
        kernels::pick(distances, limit, &mut near);
        let near: Vec<Range<usize>> = near.into_iter().map(|cell| self.places[cell as usize].clone()).collect();
        // Cells may be of very different sizes.
        if near.iter().map(Range::len).sum::<usize>() < wanted / 2 { self.places.clone() } else { near }
    }
}

/// What rows are nearest to.
struct Centres {
    rows: Rows,
    /// # Shapes
    /// `[cells / LANES, words, LANES]`
    bits: Vec<u64>,
}

impl Centres {
    fn picked(rows: &Rows, centre: &[f32]) -> Self {
        let count = (rows.len() / CELL_ROWS).min(MOST);
        let mut picked = Rows::zeros(count, rows.dim);
        for cell in 0..count {
            picked.copy(cell, rows, cell * rows.len() / count);
        }
        Self::new(picked, centre)
    }

    fn new(rows: Rows, centre: &[f32]) -> Self {
        let words = rows.dim.div_ceil(64);
        let mut blocks = vec![0; rows.len().next_multiple_of(LANES) * words];
        for cell in 0..rows.len() {
            let mut bits = vec![0; words];
            set_bits(rows.embedding(cell), centre, &mut bits);
            for (word, bits) in bits.iter().enumerate() {
                blocks[(cell / LANES * words + word) * LANES + cell % LANES] = *bits;
            }
        }
        Self { rows, bits: blocks }
    }

    /// Moves every centre to where the sampled rows that are nearest to it are.
    fn move_to(&mut self, rows: &Rows, sample: &[u32], nearest: &[u16], centre: &[f32]) {
        let mut sums = vec![0.0_f32; self.rows.len() * rows.dim];
        for (number, cell) in sample.iter().zip(nearest) {
            let sums = &mut sums[usize::from(*cell) * rows.dim..][..rows.dim];
            sums.iter_mut().zip(rows.embedding(*number as usize)).for_each(|(sum, number)| *sum += number);
        }
        let mut moved = Rows::zeros(self.rows.len(), rows.dim);
        for (cell, sums) in sums.chunks_exact(rows.dim).enumerate() {
            let length = sums.iter().map(|number| number * number).sum::<f32>().sqrt();
            if length > 0.0 {
                let unit: Vec<f32> = sums.iter().map(|number| number / length).collect();
                moved.set(cell, &unit);
            } else {
                moved.copy(cell, &self.rows, cell);
            }
        }
        *self = Self::new(moved, centre);
    }

    /// The nearest centre of each of some rows, among those that are nearest by their sketches.
    ///
    /// # Shapes
    /// `bits`: `[rows, words]`, the result: `[numbers]`
    fn nearest(&self, rows: &Rows, bits: &[u64], numbers: &[u32], helpers: Helpers) -> Vec<u16> {
        let words = rows.dim.div_ceil(64);
        let part_rows = part_rows(numbers.len());
        let mut parts: Vec<(&[u32], Vec<u16>)> =
            numbers.chunks(part_rows).map(|numbers| (numbers, Vec::new())).collect();
        helpers.share(&mut parts, |_, (numbers, nearest)| {
            let mut distances = vec![0; self.bits.len() / words.max(1)];
            let (mut sketch, mut near, mut row) = (Vec::new(), Vec::new(), Vec::new());
            for number in *numbers {
                let number = *number as usize;
                sketch.clear();
                sketch.extend(bits[number * words..][..words].iter().copied().map(Word::plain));
                kernels::compare(&self.bits, &sketch, &mut distances);
                let distances = &distances[..self.rows.len()];
                let least = distances.iter().fold(u16::MAX, |least, distance| least.min(*distance));
                let limit = least.saturating_add(COMPARED_BITS * words as u16);
                near.clear();
                kernels::pick(distances, limit, &mut near);
                row.clear();
                row.extend(rows.embedding(number));
                let similarities = self.rows.similarities(&near, &Query::of(&row));
                // Of equal ones the first.
                let best = near.iter().zip(similarities).reduce(|best, one| if one.1 > best.1 { one } else { best });
                nearest.push(best.map_or(0, |(cell, _)| *cell as u16));
            }
        });
        parts.into_iter().flat_map(|(_, nearest)| nearest).collect()
    }
}
