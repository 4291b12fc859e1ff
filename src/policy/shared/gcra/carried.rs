//! What keys have left, at an upgrade: the next process goes on counting where this one stopped.

use super::slot::EMPTY;
use super::store::Store;
use super::{TICKS, Ticks};
use crate::retained::Carried;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

/// The store as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// What keys are hashed with.
    seed: [u64; 4],
    /// When this was written, in microseconds since 1970.
    at: u64,
    /// For each key its hash and how far it is ahead in ticks, 8 bytes each, the greatest first; in base64.
    keys: String,
}

/// Bytes of a key.
const EACH: usize = 16;
/// What is written besides keys takes no more than this.
const REST: usize = 256;

impl Carried for Store {
    const VERSION: u32 = 1;
    const ROOM: usize = 8 << 20;
    const FIRST: bool = true;

    fn export(&self, room: usize) -> Option<Value> {
        let now = self.now();
        let ahead = |slot: super::slot::Slot<'_>| {
            let ahead = slot.full()?.checked_sub(now).filter(|ahead| *ahead > 0)?;
            Some((slot.key(), ahead)).filter(|(key, _)| *key != EMPTY)
        };
        let mut keys: Vec<(u64, Ticks)> = self.all().filter_map(ahead).collect();
        if keys.is_empty() {
            return None;
        }
        // Those that have longest to wait would gain most by being forgotten.
        keys.sort_unstable_by_key(|(_, ahead)| Reverse(*ahead));
        keys.truncate(room.saturating_sub(REST) / 4 * 3 / EACH);
        let bytes: Vec<u8> =
            keys.iter().flat_map(|(key, ahead)| [key.to_le_bytes(), ahead.to_le_bytes()]).flatten().collect();
        let written = Written { seed: self.seed(), at: micros(), keys: STANDARD.encode(bytes) };
        serde_json::to_value(written).ok()
    }

    fn import(&self, version: u32, data: Value) -> Result<(), String> {
        if version != Self::VERSION {
            return Err(format!("version {version} is not known"));
        }
        let written: Written = serde_json::from_value(data).map_err(|error| error.to_string())?;
        let bytes = STANDARD.decode(written.keys).map_err(|error| error.to_string())?;
        if !self.take_seed(written.seed) {
            return Err("it has counted already".to_owned());
        }
        let (now, passed) = (self.now(), micros().saturating_sub(written.at).saturating_mul(1000 * TICKS));
        for [key, ahead] in bytes.as_chunks::<8>().0.as_chunks::<2>().0 {
            let (key, ahead) = (u64::from_le_bytes(*key), u64::from_le_bytes(*ahead));
            if let Some(left) = ahead.checked_sub(passed).filter(|_| key != EMPTY) {
                self.put(key, now.saturating_add(left), now);
            }
        }
        Ok(())
    }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
