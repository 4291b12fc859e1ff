//! Who waits for somebody else's answer: for a key that is not there yet, or for what a server tells of a
//! token.
//!
//! Anybody can make tokens with key names that nobody ever published. Each asks for a fetch, and
//! three things must not come of it:
//!
//! - **A storm on the issuer.** However many ask, fetches begin at least a second apart (`remote`).
//! - **A spent fetch.** A limit such as "one fetch a minute" would let an attacker use up the fetch
//!   that a rotation needs. There is no such budget: under attack the keys are fetched each second, so
//!   that a new key is known a second after it was published at the latest. Nor is it remembered that
//!   a name was unknown: an attacker who can guess the next key's name could spoil it in advance. Whoever
//!   asks waits for a fetch that begins after it asked.
//! - **No place to wait.** Places are limited. When all are taken, a newcomer gets that of the client
//!   that has the most (the one who has waited longest there), unless the newcomer's client would
//!   itself have the most. So a client with one request under way finds a place as long as any other
//!   has more than one, and a flood displaces itself. A network of 64 bits counts as one client in
//!   IPv6. What is left: an attacker with as many addresses as there are places can, for the second
//!   until the next fetch, turn away requests with a new key that the issuer did not publish before it
//!   signed with it; and only these, since known keys never wait.
//!
//! Likewise with tokens that a server is asked about: whoever comes with ever other ones has its own calls
//! given up for those of others.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The places to wait for one issuer's keys, or for one server's answers.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    next: u64,
    by_client: HashMap<IpAddr, VecDeque<(u64, oneshot::Sender<()>)>>,
}

/// A place, until it is dropped or given to somebody else.
#[derive(Debug)]
pub struct Place {
    room: Arc<WaitingRoom>,
    client: IpAddr,
    number: u64,
    taken_away: oneshot::Receiver<()>,
}

impl WaitingRoom {
    /// Takes a place of `places`, if there is one for this client.
    pub fn enter(self: &Arc<Self>, client: IpAddr, places: usize) -> Option<Place> {
        let client = network(client);
        let mut inner = self.inner.lock();
        if inner.taken >= places {
            let own = inner.by_client.get(&client).map_or(0, VecDeque::len);
            let most = inner.by_client.iter().max_by_key(|(_, waiting)| waiting.len());
            let (heaviest, count) = most.map(|(client, waiting)| (*client, waiting.len()))?;
            if own + 1 >= count {
                return None;
            }
            inner.remove(heaviest, None);
        }
        let number = inner.next;
        inner.next += 1;
        inner.taken += 1;
        let (keep, taken_away) = oneshot::channel();
        inner.by_client.entry(client).or_default().push_back((number, keep));
        Some(Place { room: Arc::clone(self), client, number, taken_away })
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.inner.lock().taken
    }
}

impl Inner {
    /// Frees this client's place of this number, or the one that it has had longest.
    fn remove(&mut self, client: IpAddr, number: Option<u64>) {
        let Some(waiting) = self.by_client.get_mut(&client) else { return };
        let at = match number {
            Some(number) => waiting.iter().position(|(known, _)| *known == number),
            None => Some(0),
        };
        if at.and_then(|at| waiting.remove(at)).is_some() {
            self.taken -= 1;
        }
        if waiting.is_empty() {
            self.by_client.remove(&client);
        }
    }
}

impl Place {
    /// Ends when the place was given to somebody else.
    pub async fn lost(&mut self) {
        let _ = (&mut self.taken_away).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.inner.lock().remove(self.client, Some(self.number));
    }
}

/// What counts as one client.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn a_flood_displaces_itself() {
        let room = Arc::<WaitingRoom>::default();
        let mut flood: Vec<Place> = (0..10).filter_map(|_| room.enter(client(1), 10)).collect();
        assert_eq!(flood.len(), 10);
        assert!(room.enter(client(1), 10).is_none(), "it has the most itself");
        let mut other = room.enter(client(2), 10).expect("a place of the flood's");
        assert!(flood[0].lost().now_or_never().is_some(), "the longest wait ends");
        assert!(flood[1..].iter_mut().all(|place| place.lost().now_or_never().is_none()));
        assert!(other.lost().now_or_never().is_none());
        assert_eq!(room.taken(), 10);
        drop(flood);
        assert_eq!(room.taken(), 1);
        drop(other);
        assert_eq!(room.taken(), 0);
        assert!(room.inner.lock().by_client.is_empty());
    }

    #[test]
    fn clients_that_have_as_much_keep_it() {
        let room = Arc::<WaitingRoom>::default();
        let places: Vec<_> = (0..4).map(|number| room.enter(client(number), 4).unwrap()).collect();
        assert!(room.enter(client(9), 4).is_none());
        drop(places);
        assert!(room.enter(client(9), 4).is_some());
    }

    #[test]
    fn a_network_is_one_client() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3:4:5"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
