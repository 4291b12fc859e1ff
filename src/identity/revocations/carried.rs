//! How revocations go to the next process: all of them while this one serves on, and then what has changed.

use super::entry::{Defaults, Revocation, RevocationId, Written};
use super::{Ledger, Revocations, now};
use crate::retained::{Carried, Mark};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many go in one piece: some 250 bytes each, 6 KiB at most.
const PIECE: usize = 1000;

impl Carried for Revocations {
    const VERSION: u32 = 1;
    const ROOM: usize = 8 << 20;
    const FIRST: bool = true;

    /// Those that end last, where not all fit: only to builds that take none ahead.
    fn export(&self, room: usize) -> Option<Value> {
        let ledger = self.ledger.lock();
        self.written(ledger.by_id.values(), room)
    }

    fn ahead(&self, mark: &mut Mark) -> Option<Value> {
        let mut ledger = self.ledger.lock();
        if !mark.begun {
            ledger.since_ahead = Some(BTreeSet::new());
        }
        let from =
            if mark.begun { Bound::Excluded(RevocationId::from(mark.after)) } else { Bound::Unbounded };
        let next: Vec<_> = ledger.by_id.range((from, Bound::Unbounded)).take(PIECE).collect();
        mark.after = next.last().map(|(id, _)| u128::from(**id))?;
        Some(next.iter().map(|(_, one)| json!(one.written())).collect())
    }

    fn rest(&self, _mark: &Mark, room: usize) -> Option<Value> {
        let ledger = self.ledger.lock();
        let changed = ledger.since_ahead.iter().flatten();
        self.written(changed.filter_map(|id| ledger.by_id.get(id)), room)
    }

    fn resume(&self) {
        self.ledger.lock().since_ahead = None;
        self.handed_over.store(false, Ordering::Release);
    }

    fn import(&self, version: u32, data: Value) -> Result<(), String> {
        if version != Self::VERSION {
            return Err("an unknown version".to_owned());
        }
        let all: Vec<Written> = serde_json::from_value(data).map_err(|error| error.to_string())?;
        let defaults = Defaults { now: now(), until: u64::MAX, before_now: false };
        let mut ledger = self.ledger.lock();
        let most = ledger.settings.most;
        let mut left_out = 0;
        for one in all.into_iter().filter_map(|written| written.read(defaults).ok()) {
            // Without settings there is no bound yet.
            if !ledger.begun || self.has_room(&mut ledger, &one, most, defaults.now / 1000) {
                self.merge(&mut ledger, &one, true);
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            log::error!(
                "revocations: more were handed over than may be kept most={most} left_out={left_out}"
            );
        }
        self.changed.send_replace(ledger.generation);
        Ok(())
    }
}

impl Revocations {
    /// From here on the other process writes the file.
    fn written<'a>(&self, some: impl Iterator<Item = &'a Arc<Revocation>>, room: usize) -> Option<Value> {
        self.handed_over.store(true, Ordering::Release);
        let mut all: Vec<_> = some.collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.until));
        let mut left = room.saturating_sub(2);
        let mut kept = Vec::new();
        for one in all {
            let written = json!(one.written());
            let Some(rest) = left.checked_sub(written.to_string().len() + 1) else {
                log::warn!("revocations: not all fit into the hand-over kept={}", kept.len());
                break;
            };
            left = rest;
            kept.push(written);
        }
        (!kept.is_empty()).then_some(Value::Array(kept))
    }

    /// Whether one more may be kept, or is there already.
    pub(super) fn has_room(&self, ledger: &mut Ledger, one: &Revocation, most: usize, now: u64) -> bool {
        if ledger.by_id.len() < most || ledger.by_id.contains_key(&one.id()) {
            return true;
        }
        self.prune(ledger, now);
        ledger.by_id.len() < most
    }
}
