//! How many connections a client may have.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Clients that connect at the same time seldom wait for each other.
const SHARDS: usize = 16;
/// A map with room for fewer keeps it.
const SMALL: usize = 64;

/// An address as it is counted: an IPv4 address, or the network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client([u8; 16]);

/// Open connections by client. It is touched when a connection opens and when it closes, and has no
/// more entries than there are connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    hasher: ahash::RandomState,
    shards: [Mutex<HashMap<Client, u32, ahash::RandomState>>; SHARDS],
}

impl Client {
    /// The client at an address, of which the first `prefix` bits count if it is IPv6.
    pub(super) fn of(address: IpAddr, prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => Self((address.to_bits() & mask(prefix)).to_be_bytes()),
        }
    }
}

fn mask(prefix: u8) -> u128 {
    let host_bits = Ipv6Addr::BITS.saturating_sub(u32::from(prefix));
    u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

impl Clients {
    /// Counts a connection in. False if the client has `most` already.
    pub(super) fn enter(&self, client: Client, most: u32) -> bool {
        if most == 0 {
            return false;
        }
        let mut shard = self.shard(client).lock();
        let open = shard.entry(client).or_insert(0);
        let may = *open < most;
        if may {
            *open += 1;
        }
        may
    }

    /// Counts a connection out that was counted in.
    pub(super) fn leave(&self, client: Client) {
        let mut shard = self.shard(client).lock();
        let Some(open) = shard.get_mut(&client) else { return };
        *open = open.saturating_sub(1);
        if *open == 0 {
            shard.remove(&client);
            // After a flood the memory goes back.
            if shard.capacity() > SMALL && shard.len() < shard.capacity() / 4 {
                let half = shard.capacity() / 2;
                shard.shrink_to(half);
            }
        }
    }

    fn shard(&self, client: Client) -> &Mutex<HashMap<Client, u32, ahash::RandomState>> {
        &self.shards[self.hasher.hash_one(client) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(address: &str, prefix: u8) -> Client {
        Client::of(address.parse().unwrap(), prefix)
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        for (one, other, prefix, same) in [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 64, true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", 64, false),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", 48, true),
            ("2001:db8:1:2::1", "2001:db8:1:2::2", 128, false),
            ("192.0.2.1", "192.0.2.2", 64, false),
            ("192.0.2.1", "::ffff:192.0.2.1", 64, true),
            ("::", "0.0.0.0", 16, false),
        ] {
            assert_eq!(client(one, prefix) == client(other, prefix), same, "{one} {other} /{prefix}");
        }
    }

    #[test]
    fn a_client_has_its_share_and_no_more() {
        let clients = Clients::default();
        let (one, other) = (client("192.0.2.1", 64), client("192.0.2.2", 64));
        assert!(clients.enter(one, 2) && clients.enter(one, 2));
        assert!(!clients.enter(one, 2), "the third of two");
        assert!(clients.enter(other, 2), "the others have their own");
        clients.leave(one);
        assert!(clients.enter(one, 2), "a place is free again");
        assert!(!clients.enter(client("192.0.2.3", 64), 0));
    }

    #[test]
    fn nothing_is_kept_of_clients_that_have_gone() {
        let clients = Clients::default();
        let many: Vec<Client> =
            (0..20_000u32).map(|at| Client::of(IpAddr::from(at.to_be_bytes()), 64)).collect();
        assert!(many.iter().all(|client| clients.enter(*client, 1)));
        many.iter().for_each(|client| clients.leave(*client));
        for shard in &clients.shards {
            let shard = shard.lock();
            assert_eq!(shard.len(), 0);
            assert!(shard.capacity() <= 4 * SMALL, "{}", shard.capacity());
        }
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_open(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..200)) {
            let clients = Clients::default();
            let mut open = [0u32; 4];
            for (who, enters) in steps {
                let client = Client::of(IpAddr::from([192, 0, 2, who]), 64);
                let count = &mut open[usize::from(who)];
                if enters {
                    prop_assert_eq!(clients.enter(client, 3), *count < 3);
                    *count = (*count + 1).min(3);
                } else if *count > 0 {
                    clients.leave(client);
                    *count -= 1;
                }
            }
        }
    }
}
