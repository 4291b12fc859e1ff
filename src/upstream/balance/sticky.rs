//! Ids of endpoints in cookies.

use crate::telemetry::random::next_u64;
use aws_lc_rs::hmac;

/// What derives the ids of endpoints: a keyed hash, so that a cookie tells nobody an address and
/// nobody makes one up.
pub struct Sticky {
    key: hmac::Key,
}

impl std::fmt::Debug for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sticky")
    }
}

/// The ids of a set's endpoints.
#[derive(Debug)]
pub struct Ids {
    /// Ascending, with the endpoint of each.
    sorted: Box<[(u64, u32)]>,
}

impl Sticky {
    /// Derives ids with this key.
    pub fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// Derives ids with a key that is drawn now.
    pub fn random() -> Self {
        let mut key = [0; 32];
        // Were the system's generator broken, ids could be guessed; nothing else hangs on them.
        if aws_lc_rs::rand::fill(&mut key).is_err() {
            key.chunks_mut(8).for_each(|part| part.copy_from_slice(&next_u64().to_le_bytes()));
        }
        Self::new(&key)
    }

    /// The id of an endpoint, given by its label.
    pub fn id(&self, label: &str) -> u64 {
        let tag = hmac::sign(&self.key, label.as_bytes());
        tag.as_ref().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
    }
}

impl Ids {
    /// Makes the ids of endpoints findable; what has none is never found.
    pub fn new(ids: impl Iterator<Item = Option<u64>>) -> Self {
        let mut sorted: Vec<(u64, u32)> = ids.zip(0..).filter_map(|(id, at)| Some((id?, at))).collect();
        sorted.sort_unstable();
        Self { sorted: sorted.into() }
    }

    /// The endpoint of this id.
    pub fn find(&self, id: u64) -> Option<usize> {
        let place = self.sorted.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.sorted[place].1 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_again_by_those_who_have_the_key() {
        let labels = ["192.0.2.1:80", "192.0.2.2:80", "unix:/run/app.sock"];
        let ids =
            |key: &str| Ids::new(labels.iter().map(|label| Some(Sticky::new(key.as_bytes()).id(label))));
        let (ours, others) = (ids("key"), ids("another"));
        for (at, label) in labels.iter().enumerate() {
            let id = Sticky::new(b"key").id(label);
            assert_eq!((ours.find(id), others.find(id)), (Some(at), None));
        }
        assert_eq!(ours.find(0), None);
    }
}
