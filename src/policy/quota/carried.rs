//! What is used, at an upgrade: the next process goes on counting where this one stopped.

use super::count::Millis;
use super::file::Line;
use super::store::{Digest, Entry, Store, now};
use crate::retained::Carried;
use serde_json::Value;
use std::cmp::Reverse;
use std::sync::atomic::Ordering;

impl Carried for Store {
    const VERSION: u32 = 1;
    const ROOM: usize = 3 << 20;
    const FIRST: bool = true;

    /// Those that were used last, where not all fit: the others are in the file, which the next process has
    /// read and is the one to write from here on.
    fn export(&self, room: usize) -> Option<Value> {
        self.handed_over.store(now(), Ordering::Release);
        let mut all: Vec<(Millis, Digest, Entry)> = Vec::new();
        for part in self.parts() {
            all.extend(part.keys.iter().map(|(key, entry)| (entry.touched, *key, entry.clone())));
        }
        all.sort_unstable_by_key(|(touched, key, _)| (Reverse(*touched), *key));
        let (mut kept, mut left) = (Vec::new(), room.saturating_sub(2));
        for (_, key, entry) in &all {
            let line = serde_json::to_value(Line::of(key, entry)).ok()?;
            let Some(rest) = left.checked_sub(line.to_string().len() + 1) else {
                log::warn!("quotas: not all fit into the hand-over kept={} of={}", kept.len(), all.len());
                break;
            };
            left = rest;
            kept.push(line);
        }
        (!kept.is_empty()).then_some(Value::Array(kept))
    }

    fn import(&self, version: u32, data: Value) -> Result<(), String> {
        if version != Self::VERSION {
            return Err(format!("version {version} is not known"));
        }
        let lines: Vec<Line> = serde_json::from_value(data).map_err(|error| error.to_string())?;
        let now = now();
        for (key, entry) in lines.into_iter().filter_map(Line::read) {
            self.put(key, entry, (false, now));
        }
        Ok(())
    }
}
