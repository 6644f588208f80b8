//! How much may be asked for: requests a second for each client, requests at work at a time.
//!
//! The rate is that of the generic cell rate algorithm (ITU-T I.371): a client's theoretical arrival time moves on by one
//! interval a request and may be a burst ahead of the clock. Invariant: a place is given back however a request ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::Scope;
use super::problem::{Code, ServiceError};

/// Clients that are remembered; those that have been quiet are forgotten beyond that.
const MAX_CLIENTS: usize = 1024;

/// Who asks: an address, and what its token may do.
pub type ClientKey = (Option<IpAddr>, Scope);

/// A rate for each client.
pub struct Rate {
    interval: Duration,
    burst: Duration,
    started: Instant,
    /// The theoretical arrival time of each client's next request, from `started`.
    arrivals: Mutex<HashMap<ClientKey, Duration>>,
}

impl Rate {
    /// So many requests a second, and as many at once; 0 sets no limit.
    pub fn new(requests_per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(requests_per_second).unwrap_or(Duration::ZERO);
        Self { interval, burst: Duration::from_secs(1), started: Instant::now(), arrivals: Mutex::default() }
    }

    /// Lets a request in, or says that its client asks too often.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn check(&self, client: ClientKey) -> Result<(), ServiceError> {
        match self.admits(client, self.started.elapsed()) {
            true => Ok(()),
            false => Err(ServiceError::refused(Code::RateLimited, "this client asks too often")),
        }
    }

    fn admits(&self, client: ClientKey, now: Duration) -> bool {
        if self.interval.is_zero() {
            return true;
        }
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() >= MAX_CLIENTS {
            arrivals.retain(|_, arrival| *arrival > now);
        }
        let arrival = arrivals.get(&client).copied().unwrap_or_default().max(now);
        if arrival + self.interval > now + self.burst {
            return false;
        }
        arrivals.insert(client, arrival + self.interval);
        true
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
    use super::*;

    const ME: ClientKey = (None, Scope::Admin);

    #[test]
    fn a_client_has_a_burst_and_then_a_rate_of_its_own() {
        let rate = Rate::new(10);
        let at = Duration::from_millis;
        let admitted = (0..20).filter(|_| rate.admits(ME, at(0))).count();
        assert_eq!(admitted, 10);
        assert!(!rate.admits(ME, at(99)) && rate.admits(ME, at(100)) && !rate.admits(ME, at(101)));
        assert!(rate.admits((None, Scope::Read), at(101)), "another client");
        assert_eq!((0..20).filter(|_| rate.admits(ME, at(60_000))).count(), 10, "no more than a burst is saved up");
        assert!((0..10_000).all(|_| Rate::new(0).admits(ME, at(0))), "0 sets no limit");
    }

    #[test]
    fn quiet_clients_are_forgotten() {
        let rate = Rate::new(10);
        for address in 0..5000_u32 {
            let client = (Some(IpAddr::from(address.to_be_bytes())), Scope::Anybody);
            assert!(rate.admits(client, Duration::from_secs(u64::from(address))));
        }
        assert!(rate.arrivals.lock().unwrap().len() <= MAX_CLIENTS);
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
