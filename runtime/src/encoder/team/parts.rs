//! How a buffer is shared out among the tasks of a phase.
//!
//! Invariant: the parts of different tasks do not overlap.

use std::marker::PhantomData;

/// Something with a part for every task.
///
/// # Safety
/// Parts of different indices do not overlap, and may be used on different threads at the same time.
pub(in crate::encoder) unsafe trait Parts: Sync {
    /// What a task gets.
    type Part;

    /// # Safety
    /// At most once for an index.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

// SAFETY: nothing is shared.
unsafe impl Parts for () {
    type Part = ();

    unsafe fn part(&self, _: usize) {}
}

/// Parts of the same size, of which the last may be shorter or missing.
pub(in crate::encoder) struct Even<'a, T> {
    start: *mut T,
    length: usize,
    size: usize,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice of which each thread gets another part.
unsafe impl<T: Send> Sync for Even<'_, T> {}

impl<'a, T> Even<'a, T> {
    pub(in crate::encoder) fn new(buffer: &'a mut [T], size: usize) -> Self {
        Self { start: buffer.as_mut_ptr(), length: buffer.len(), size, buffer: PhantomData }
    }
}

// SAFETY: part `index` is `index * size..(index + 1) * size`, cut off at the end of the buffer.
unsafe impl<'a, T: Send> Parts for Even<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        let start = index.saturating_mul(self.size).min(self.length);
        let length = self.size.min(self.length - start);
        // SAFETY: within the buffer, which is borrowed for 'a; nobody else gets this part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

/// Parts between given bounds.
pub(in crate::encoder) struct Ranges<'a, T> {
    whole: Even<'a, T>,
    bounds: &'a [usize],
}

impl<'a, T> Ranges<'a, T> {
    /// # Panics
    /// Unless the bounds ascend and end within the buffer.
    pub(in crate::encoder) fn new(buffer: &'a mut [T], bounds: &'a [usize]) -> Self {
        assert!(bounds.is_sorted() && bounds.last().is_none_or(|&last| last <= buffer.len()), "bounds must ascend");
        Self { whole: Even::new(buffer, 0), bounds }
    }
}

// SAFETY: the bounds ascend and end within the buffer.
unsafe impl<'a, T: Send> Parts for Ranges<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        let (start, end) = (self.bounds[index], self.bounds[index + 1]);
        // SAFETY: within the buffer, which is borrowed for 'a; nobody else gets this part.
        unsafe { std::slice::from_raw_parts_mut(self.whole.start.add(start), end - start) }
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        // SAFETY: each of them is.
        unsafe impl<$($name: Parts),*> Parts for ($($name,)*) {
            type Part = ($($name::Part,)*);

            unsafe fn part(&self, index: usize) -> Self::Part {
                // SAFETY: passed on to the caller.
                ($(unsafe { self.$index.part(index) },)*)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_off_at_the_end() {
        let mut values = [0, 1, 2, 3, 4];
        let parts = Even::new(&mut values, 2);
        // SAFETY: each index once.
        let lengths = unsafe { [0, 1, 2, 3].map(|index| parts.part(index).len()) };
        assert_eq!(lengths, [2, 2, 1, 0]);
        let bounds = [0, 0, 3, 5];
        let parts = Ranges::new(&mut values, &bounds);
        // SAFETY: each index once.
        assert_eq!(unsafe { (parts.part(0).len(), parts.part(1).len(), &*parts.part(2)) }, (0, 3, &[3, 4][..]));
    }

    #[test]
    #[should_panic(expected = "bounds must ascend")]
    fn overlapping_parts_are_refused() {
        Ranges::new(&mut [0; 4], &[0, 3, 2]);
    }
}
