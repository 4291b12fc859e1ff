//! One connection to a store: made in the background, made again when it is lost, never waited for.

use super::connect::{Connected, Target};
use super::{StoreCount, StoreFailure};
use arc_swap::ArcSwapOption;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The first pause after a connection that was lost or did not come about, and the longest. Each is
/// twice the one before, and each is shortened by chance, so that gateways do not come back together. A gateway
/// has one connection to make: a hundred that try each second are nothing to a server that is back.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often a connection that nobody uses is asked whether it is still there.
const PING: Duration = Duration::from_secs(5);
/// So many calls in a row without an answer in time, and so long a silence: then it counts as lost.
const SILENCE: (u32, Duration) = (16, Duration::from_millis(100));
/// Calls that may be under way at once; more fail at once.
const MOST_CALLS: u32 = 4096;

/// A connection to a store, or that there is none.
pub(super) struct Link {
    /// The store's name in the configuration.
    pub name: Box<str>,
    target: Target,
    connect_timeout: Duration,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// Whether connecting was tried at all.
    tried: watch::Sender<bool>,
    /// Says that it does not answer any more.
    lost: Notify,
    silent: AtomicU32,
    /// When it answered last, in milliseconds since `began`.
    answered: AtomicU64,
    /// Whether it answered since it was connected.
    works: AtomicBool,
    calls: AtomicU32,
    began: Instant,
    counts: Counts,
}

/// What became of calls.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    down: AtomicU64,
    busy: AtomicU64,
    timeout: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    unconnected: AtomicU64,
}

impl Link {
    pub(super) fn new(name: &str, target: Target, connect_timeout: Duration) -> Self {
        Self {
            name: name.into(),
            target,
            connect_timeout,
            connection: ArcSwapOption::empty(),
            tried: watch::Sender::new(false),
            lost: Notify::new(),
            silent: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            works: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            began: Instant::now(),
            counts: Counts::default(),
        }
    }

    /// Makes one call on the connection that there is, within `timeout`.
    pub(super) async fn call<T, F>(
        &self,
        timeout: Duration,
        call: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreFailure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let outcome = self.attempt(timeout, call).await;
        let counts = &self.counts;
        let counter = match &outcome {
            Ok(_) => &counts.answered,
            Err(StoreFailure::Down) => &counts.down,
            Err(StoreFailure::Busy) => &counts.busy,
            Err(StoreFailure::Timeout(_)) => &counts.timeout,
            Err(StoreFailure::Refused(_)) => &counts.refused,
            Err(StoreFailure::Broken(_)) => &counts.broken,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    async fn attempt<T, F>(
        &self,
        timeout: Duration,
        call: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreFailure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Some(connection) = self.connection.load_full() else { return Err(StoreFailure::Down) };
        let _turn = Turn::take(&self.calls).ok_or(StoreFailure::Busy)?;
        match tokio::time::timeout(timeout, call(MultiplexedConnection::clone(&connection))).await {
            Err(_) => {
                self.note_silence(&connection, timeout);
                Err(StoreFailure::Timeout(timeout))
            }
            Ok(Ok(value)) => {
                self.note_answer();
                Ok(value)
            }
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                Err(StoreFailure::Broken(error.to_string()))
            }
            Ok(Err(error)) => {
                // A server that became a replica, or is loading: another connection may reach the one
                // that took its place.
                if matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN")) {
                    self.give_up(&connection);
                } else {
                    self.note_answer();
                }
                Err(StoreFailure::Refused(error.to_string()))
            }
        }
    }

    fn since_began(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note_answer(&self) {
        self.silent.store(0, Ordering::Relaxed);
        self.answered.store(self.since_began(), Ordering::Relaxed);
        self.works.store(true, Ordering::Relaxed);
    }

    fn note_silence(&self, connection: &Arc<MultiplexedConnection>, timeout: Duration) {
        let calls = self.silent.fetch_add(1, Ordering::Relaxed) + 1;
        let silence = self.since_began().saturating_sub(self.answered.load(Ordering::Relaxed));
        let (most, least) = SILENCE;
        if calls >= most && u128::from(silence) >= least.max(timeout * 4).as_millis() {
            self.give_up(connection);
        }
    }

    /// Nobody is to use this connection any more.
    fn give_up(&self, connection: &Arc<MultiplexedConnection>) {
        let given = self.connection.compare_and_swap(connection, None);
        if given.as_ref().is_some_and(|given| Arc::ptr_eq(given, connection)) {
            self.lost.notify_one();
        }
    }

    /// Keeps a connection, until it is dropped.
    pub(super) async fn keep(self: Arc<Self>) {
        // Nobody keeps what is there after this has been dropped.
        let _guard = Forget(&self);
        let (first, most) = PAUSES;
        let mut pause = first;
        let mut told = false;
        loop {
            let why = match self.connect().await {
                Ok(connected) => {
                    log::info!("store connected store={}", self.name);
                    told = false;
                    let why = self.hold(connected).await;
                    if self.works.load(Ordering::Relaxed) {
                        pause = first;
                    }
                    why
                }
                Err(why) => {
                    self.counts.unconnected.fetch_add(1, Ordering::Relaxed);
                    why
                }
            };
            self.tried.send_replace(true);
            if told {
                log::debug!("store still down store={} why={why:?}", self.name);
            } else {
                log::warn!("store down store={} why={why:?}", self.name);
                told = true;
            }
            tokio::time::sleep(shortened(pause)).await;
            pause = (pause * 2).min(most);
        }
    }

    /// Makes a connection, in the time that there is for it.
    pub(super) async fn connect(&self) -> Result<Connected, String> {
        let connected = tokio::time::timeout(self.connect_timeout, self.target.connect()).await;
        connected
            .unwrap_or_else(|_| Err(format!("no connection within {}ms", self.connect_timeout.as_millis())))
    }

    /// Lends a connection to calls until it is lost; why it is.
    async fn hold(&self, (connection, driver): Connected) -> String {
        self.silent.store(0, Ordering::Relaxed);
        self.answered.store(self.since_began(), Ordering::Relaxed);
        self.works.store(false, Ordering::Relaxed);
        let own = connection.clone();
        self.connection.store(Some(Arc::new(connection)));
        self.tried.send_replace(true);
        let why = tokio::select! {
            () = driver => "the connection ended".to_owned(),
            () = self.lost.notified() => "no answers in time".to_owned(),
            why = self.ping(own) => why,
        };
        self.connection.store(None);
        why
    }

    /// Asks now and then, where nobody else does; ends, with why, once there is no answer.
    async fn ping(&self, mut connection: MultiplexedConnection) -> String {
        loop {
            tokio::time::sleep(PING).await;
            let silence = self.since_began().saturating_sub(self.answered.load(Ordering::Relaxed));
            if u128::from(silence) < PING.as_millis() {
                continue;
            }
            let ping = redis::cmd("PING");
            let asked = ping.query_async::<String>(&mut connection);
            match tokio::time::timeout(self.connect_timeout, asked).await {
                Ok(Ok(_)) => self.note_answer(),
                Ok(Err(error)) => return format!("ping: {error}"),
                Err(_) => return "no answer to a ping".to_owned(),
            }
        }
    }

    /// Waits until connecting was tried once.
    pub(super) async fn settled(&self) {
        // It ends with the link alone.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Whether connecting was tried.
    pub(super) fn is_settled(&self) -> bool {
        *self.tried.borrow()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.load().is_some()
    }

    pub(super) fn count(&self) -> StoreCount {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        StoreCount {
            connected: self.is_connected(),
            connect_failures: of(&counts.unconnected),
            calls: vec![
                ("answered", of(&counts.answered)),
                ("down", of(&counts.down)),
                ("busy", of(&counts.busy)),
                ("timeout", of(&counts.timeout)),
                ("refused", of(&counts.refused)),
                ("broken", of(&counts.broken)),
            ],
        }
    }
}

/// A pause between half of `pause` and all of it.
fn shortened(pause: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without chance the whole pause is as good.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return pause;
    }
    pause.mul_f64(1.0 - f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) / 2.0)
}

/// One of the calls that may be under way.
struct Turn<'a>(&'a AtomicU32);

impl<'a> Turn<'a> {
    fn take(calls: &'a AtomicU32) -> Option<Self> {
        let turn = Self(calls);
        (calls.fetch_add(1, Ordering::Relaxed) < MOST_CALLS).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Forget<'a>(&'a Link);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.connection.store(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_shortened_by_half_at_most() {
        let pause = Duration::from_secs(1);
        let drawn: Vec<Duration> = (0..200).map(|_| shortened(pause)).collect();
        assert!(drawn.iter().all(|one| (pause / 2..=pause).contains(one)), "{drawn:?}");
        assert!(drawn.iter().any(|one| *one != drawn[0]), "by chance");
    }

    #[test]
    fn more_calls_than_there_may_be_get_no_turn() {
        let calls = AtomicU32::new(0);
        let turns: Vec<_> = (0..MOST_CALLS).map(|_| Turn::take(&calls)).collect();
        assert!(turns.iter().all(Option::is_some));
        assert!(Turn::take(&calls).is_none());
        drop(turns);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert!(Turn::take(&calls).is_some());
    }
}
