//! Large pages for numbers that a search reads here and there.
//!
//! A search looks at a thousand rows scattered over tens of megabytes. In pages of four kilobytes nearly each of them costs a
//! walk through the page tables as well, which in a virtual machine is as slow as the look itself.
//!
//! Invariant: this is a request to the system and nothing else; refused, the numbers are the same.

/// Numbers below which a few pages hold them all.
const WORTH_IT_BYTES: usize = 1 << 20;

/// Zeros that are about to be written.
pub(crate) fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    let numbers = vec![T::default(); len];
    if len.saturating_mul(size_of::<T>()) >= WORTH_IT_BYTES {
        ask_for_large_pages(&numbers);
    }
    numbers
}

#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(numbers: &[T]) {
    /// What every page size of Linux divides.
    const ALIGNMENT: usize = 1 << 16;
    let range = numbers.as_ptr_range();
    let start = range.start.addr().next_multiple_of(ALIGNMENT);
    let length = range.end.addr().saturating_sub(start) / ALIGNMENT * ALIGNMENT;
    if length > 0 {
        let first = range.start.with_addr(start).cast_mut().cast();
        // SAFETY: the range lies within the numbers, and the advice changes how it is mapped, not what it holds.
        let _refused = unsafe { libc::madvise(first, length, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_: &[T]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zeros_and_can_be_written() {
        for len in [0, 1, 1000, WORTH_IT_BYTES, 3 * WORTH_IT_BYTES + 7] {
            let mut numbers: Vec<i16> = zeros(len);
            assert_eq!(numbers.len(), len);
            assert!(numbers.iter().all(|number| *number == 0));
            numbers.iter_mut().zip((0..7).cycle()).for_each(|(number, value)| *number = value);
            assert!(numbers.iter().zip((0..7).cycle()).all(|(number, value)| *number == value));
        }
    }
}
