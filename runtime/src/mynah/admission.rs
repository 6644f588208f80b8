//! How many turns may be at work or wait; one more is refused rather than kept waiting for ever.
//!
//! Invariant: a place is given back when the turn is over, however it ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::MynahError;

/// The places.
#[derive(Debug)]
pub(crate) struct Admission {
    taken: AtomicUsize,
    places: usize,
}

/// A place that was taken.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(crate) struct Place<'a> {
    admission: &'a Admission,
}

impl Admission {
    pub fn new(places: usize) -> Self {
        Self { taken: AtomicUsize::new(0), places: places.max(1) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`MynahError::Overloaded`] when all are taken.
    pub fn enter(&self) -> Result<Place<'_>, MynahError> {
        let taken = self.taken.fetch_add(1, Ordering::AcqRel);
        // From here on it is given back, also when it was one too many.
        let place = Place { admission: self };
        match taken < self.places {
            true => Ok(place),
            false => Err(MynahError::Overloaded { places: self.places }),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_refused_and_places_come_back() {
        let admission = Admission::new(2);
        let first = admission.enter().expect("free");
        let second = admission.enter().expect("free");
        assert!(matches!(admission.enter(), Err(MynahError::Overloaded { places: 2 })));
        drop(first);
        let third = admission.enter().expect("free again");
        drop((second, third));
        assert_eq!(admission.taken.load(Ordering::SeqCst), 0);
        assert!(Admission::new(0).enter().is_ok(), "one place there always is");
    }
}
