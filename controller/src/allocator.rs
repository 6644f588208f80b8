//! The program's allocator, and giving back what loading a model left.

/// Training and serving allocate and free large buffers in turns; mimalloc keeps their pages.
pub type Allocator = mimalloc::MiMalloc;

/// Returns to the system what is free and likely to stay so: loading a model takes twice what holding it does.
pub fn give_back() {
    // SAFETY: collecting may be asked for at any time, from any thread; whether mimalloc is the allocator or not.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
