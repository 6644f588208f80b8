//! A forward pass over shapes seen before allocates nothing. A binary of its own, because the allocator counts for all
//! threads of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use mynah_runtime::{Checkpoint, Encoder, EncoderOptions, Hidden, InstructionSet, Precision};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_pass_allocates_nothing_once_it_is_warm() {
    if InstructionSet::detect() == InstructionSet::Portable {
        // rten-gemm allocates its own work buffers.
        return;
    }
    let checkpoint = Checkpoint::starter().unwrap();
    for threads in [1, 2] {
        let options = EncoderOptions { threads: Some(threads) };
        let encoder = Encoder::load_with(&checkpoint, Precision::Int8, options).unwrap();
        let ids = [7; 128];
        let (one, long, several) = ([&ids[..16]], [&ids[..]], [&ids[..5], &ids[..40], &ids[..0], &ids[..17]]);
        let batches: [&[&[u32]]; 3] = [&one, &long, &several];
        let mut hidden = Hidden::default();
        for _ in 0..3 {
            batches.iter().for_each(|batch| encoder.forward_into(batch, &mut hidden).unwrap());
        }
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for _ in 0..20 {
            batches.iter().for_each(|batch| encoder.forward_into(batch, &mut hidden).unwrap());
        }
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "{threads} threads");
    }
}
