//! The program's allocator, and giving back what loading a model left.

/// Training and serving allocate and free large buffers in turns; mimalloc keeps their pages.
pub type Allocator = mimalloc::MiMalloc;

/// Returns to the system what is free and likely to stay so: loading a model takes twice what holding it does.
pub fn give_back() {
    // SAFETY: collecting may be asked for at any time, from any thread; whether mimalloc is the allocator or not.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// From now on returns to the system what is free as soon as it is: a service that reads its log now and then and rebuilds
/// what it remembers would otherwise keep the most that it ever needed.
pub fn give_back_at_once() {
    // SAFETY: as above; the number names an option in the versions 2 and 3, and the tests know its default.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) }
}

/// `mi_option_purge_delay` in mimalloc.h, which the bindings leave out: milliseconds.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_option_whose_default_is_ten_milliseconds() {
        // SAFETY: options may be read at any time.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // Ten milliseconds in version 2, a second in some of version 3.
        assert!([10, 1000].contains(&delay()), "{}", delay());
        give_back_at_once();
        assert_eq!(delay(), 0);
    }
}
