//! When requests are due.

use std::time::{Duration, Instant};

/// The times of one client's requests. They do not depend on how long answers take: a request that waits
/// for the one before it is late from the moment when it was due.
pub struct Pace {
    next: Instant,
    every: Option<Duration>,
}

impl Pace {
    /// Of client `place.0` of `place.1`, which together send `rate` requests a second; 0 is no pace.
    pub fn new(began: Instant, rate: f64, place: (usize, usize)) -> Self {
        let (at, clients) = place;
        let every = (rate > 0.0).then(|| Duration::from_secs_f64(clients as f64 / rate));
        let first = every.unwrap_or_default().mul_f64(at as f64 / clients as f64);
        Self { next: began + first, every }
    }

    /// Waits for the next request's time.
    pub async fn turn(&mut self) -> Instant {
        let Some(every) = self.every else { return Instant::now() };
        let due = self.next;
        self.next += every;
        tokio::time::sleep_until(due.into()).await;
        due
    }
}
