//! Who has used how much, for an operator.

use super::count::{Count, Millis};
use super::store::{Digest, Entry, Store, now};
use serde_json::{Value, json};

/// The most keys that one answer shows.
pub const PAGE: usize = 1000;

/// Which keys are asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those of this caller, as [`usage`](Store::usage) shows it.
    pub of: Option<String>,
    /// Those after this one.
    pub after: Option<String>,
}

impl Store {
    /// Up to [`PAGE`] keys with what they have used, in the order of their ids.
    pub fn usage(&self, wanted: &Wanted) -> Value {
        let now = now();
        let mut all: Vec<(String, Entry)> = Vec::new();
        for part in self.parts() {
            let shown = part.keys.iter().filter(|(_, entry)| !entry.count.is_over(now));
            let shown = shown.filter(|(_, entry)| wanted.of.as_ref().is_none_or(|of| **of == *entry.label));
            let shown = shown.map(|(key, entry)| (id(key), entry));
            let shown = shown.filter(|(id, _)| wanted.after.as_ref().is_none_or(|after| id > after));
            all.extend(shown.map(|(id, entry)| (id, entry.clone())));
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let more = all.len() > PAGE;
        all.truncate(PAGE);
        let next = all.last().filter(|_| more).map(|(id, _)| id.clone());
        let page: Vec<Value> = all.into_iter().map(|(id, entry)| shown(&id, entry, now)).collect();
        json!({ "quotas": page, "next": next })
    }
}

fn id(key: &Digest) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(id: &str, mut entry: Entry, now: Millis) -> Value {
    let mut parts = entry.quota.splitn(3, '/');
    let (place, name, key) = (parts.next(), parts.next(), parts.next());
    let (used, window, resets) = match &mut entry.count {
        Count::Calendar { end, used } => (*used, "calendar", *end),
        Count::Rolling(parts) => (parts.used_at(now), "rolling", parts.empty_at()),
    };
    let second = |millis: Millis| i64::try_from(millis / 1000).ok();
    let time = |second: i64| jiff::Timestamp::from_second(second).ok();
    let resets = second(resets).and_then(time);
    json!({
        "id": id, "quota": name, "by": key, "place": place, "for": entry.label, "window": window,
        "used": used, "max": entry.max, "left": entry.max.saturating_sub(used),
        "all_back_at": resets.map(|at| at.to_string()),
        "last_asked_at": second(entry.touched).and_then(time).map(|at| at.to_string()),
    })
}
