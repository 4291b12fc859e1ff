//! One call for all who ask the same at the same time.

use ahash::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::watch;

/// Calls that are under way, by what they ask.
pub struct Flights<K, V> {
    calls: Mutex<HashMap<K, watch::Receiver<Option<V>>, RandomState>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { calls: Mutex::default() }
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.calls.lock().len()).finish()
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Copy + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What `call` answers, or what a call for the same that is under way does. The call goes on even
    /// if whoever asked first goes away. None if `most` calls are under way, or the call broke off.
    pub async fn join<F>(self: &Arc<Self>, key: K, most: usize, call: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut answer = {
            let mut calls = self.calls.lock();
            let full = calls.len() >= most;
            match calls.entry(key) {
                Entry::Occupied(under_way) => under_way.get().clone(),
                Entry::Vacant(_) if full => return None,
                Entry::Vacant(free) => {
                    let (tell, answer) = watch::channel(None);
                    free.insert(answer.clone());
                    let landing = Landing { flights: Arc::clone(self), key };
                    let call = call();
                    tokio::spawn(async move {
                        let value = call.await;
                        // First away, then told: whoever asks from now on asks anew.
                        drop(landing);
                        tell.send_replace(Some(value));
                    });
                    answer
                }
            }
        };
        let value = answer.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

/// Takes a call away when it ends, however it does.
struct Landing<K: Hash + Eq, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.calls.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_call() {
        let flights = Arc::<Flights<u8, u8>>::default();
        let (calls, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = |key: u8| {
            let (flights, calls, gate) = (flights.clone(), calls.clone(), gate.clone());
            async move {
                let call = || async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    let _permit = gate.acquire().await;
                    key + 1
                };
                flights.join(key, 2, call).await
            }
        };
        let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(ask(1))).collect();
        let other = tokio::spawn(ask(2));
        while flights.calls.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(3).await, None, "two are under way");
        // Whoever asked first goes away.
        waiting[0].abort();
        gate.add_permits(10);
        for one in waiting.into_iter().skip(1) {
            assert_eq!(one.await.unwrap(), Some(2));
        }
        assert_eq!(other.await.unwrap(), Some(3));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(flights.calls.lock().is_empty());
        assert_eq!(ask(3).await, Some(4));
    }

    #[tokio::test]
    async fn a_call_that_breaks_off_frees_its_place() {
        let flights = Arc::<Flights<u8, u8>>::default();
        let answer = flights.join(1, 1, || async { panic!("broken off, as the test wants") }).await;
        assert_eq!(answer, None);
        assert_eq!(flights.join(1, 1, || async { 7 }).await, Some(7));
    }
}
