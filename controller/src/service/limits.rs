//! How much may be asked for: requests a second for each client, requests at work at a time.
//!
//! Invariant: a place is given back however a request ends.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::access::Scope;
use super::problem::{Code, ServiceError};

/// Clients that are remembered; those that have been quiet are forgotten beyond that.
const MAX_CLIENTS: usize = 1024;

/// Who asks: an address, and what its token may do.
pub type ClientKey = (Option<IpAddr>, Scope);

type Limiter<C> = RateLimiter<ClientKey, HashMapStateStore<ClientKey>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A rate for each client, and as many requests at once as it has a second.
pub struct Rate<C: Clock = DefaultClock> {
    limiter: Option<Limiter<C>>,
}

impl Rate {
    /// So many requests a second; 0 sets no limit.
    pub fn new(requests_per_second: u32) -> Self {
        Self::by(requests_per_second, DefaultClock::default())
    }
}

impl<C: Clock> Rate<C> {
    fn by(requests_per_second: u32, clock: C) -> Self {
        let quota = NonZeroU32::new(requests_per_second).map(Quota::per_second);
        Self { limiter: quota.map(|quota| RateLimiter::hashmap_with_clock(quota, clock)) }
    }

    /// Lets a request in, or says that its client asks too often.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn check(&self, client: ClientKey) -> Result<(), ServiceError> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() >= MAX_CLIENTS {
            limiter.retain_recent();
        }
        let refused = |_| ServiceError::refused(Code::RateLimited, "this client asks too often");
        limiter.check_key(&client).map_err(refused)
    }
}

/// The places for requests at work.
pub struct Places {
    taken: Arc<AtomicUsize>,
    places: usize,
}

/// A place that was taken.
#[must_use = "the place is given back when this is dropped"]
pub struct Place(Arc<AtomicUsize>);

impl Places {
    /// So many.
    pub fn new(places: usize) -> Self {
        Self { taken: Arc::default(), places: places.max(1) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when all are taken.
    pub fn enter(&self) -> Result<Place, ServiceError> {
        let taken = self.taken.fetch_add(1, Ordering::AcqRel);
        // From here on it is given back, also when it was one too many.
        let place = Place(self.taken.clone());
        match taken < self.places {
            true => Ok(place),
            false => Err(ServiceError::Overloaded { message: format!("{} requests are at work", self.places) }),
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    const ME: ClientKey = (None, Scope::Admin);

    #[test]
    fn a_client_has_a_burst_and_then_a_rate_of_its_own() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::by(10, clock.clone());
        let admitted = || (0..20).filter(|_| rate.check(ME).is_ok()).count();
        assert_eq!(admitted(), 10);
        clock.advance(Duration::from_millis(99));
        assert_eq!(admitted(), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(admitted(), 1);
        assert!(rate.check((None, Scope::Read)).is_ok(), "another client");
        clock.advance(Duration::from_secs(60));
        assert_eq!(admitted(), 10, "no more than a burst is saved up");
        let unlimited = Rate::new(0);
        assert!((0..10_000).all(|_| unlimited.check(ME).is_ok()), "0 sets no limit");
    }

    #[test]
    fn quiet_clients_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::by(10, clock.clone());
        for address in 0..5000_u32 {
            assert!(rate.check((Some(IpAddr::from(address.to_be_bytes())), Scope::Anybody)).is_ok());
            clock.advance(Duration::from_secs(1));
        }
        assert!(rate.limiter.unwrap().len() <= MAX_CLIENTS);
    }

    #[test]
    fn one_too_many_is_refused_and_places_come_back() {
        let places = Places::new(1);
        let first = places.enter().expect("free");
        assert!(matches!(places.enter(), Err(ServiceError::Overloaded { .. })));
        assert_eq!(places.taken(), 1);
        drop(first);
        assert!(places.enter().is_ok());
    }
}
