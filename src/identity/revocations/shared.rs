//! Revocations that gateways tell each other by a store.
//!
//! The store keeps one text for each id, and in which order they were told: a counter that each change
//! moves on. A gateway asks for what was told after the last change that it knows, so that a round without
//! news is one short question. A store that was emptied has another epoch, and is told everything anew.

use super::entry::{Defaults, Revocation, RevocationId, Written};
use super::{Revocations, now};
use crate::outbound::redis::{Script, ScriptInvocation, Store, StoreFailure};
use crate::values::Problem;
use serde_json::json;
use std::time::Duration;

/// Revocations that are told, or asked for, at a time.
const BATCH: usize = 200;
/// By how much a gateway's clock may be ahead, in milliseconds.
const AHEAD: u64 = 86_400_000;
/// For a call: no request waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keys: texts, order, ends, counter. Arguments: an epoch in case there is none, now, then id, text and end
/// for each. What is over is forgotten, some of it each time.
const TELL: &str = r"
redis.call('HSETNX', KEYS[4], 'epoch', ARGV[1])
for at = 3, #ARGV, 3 do
  local n = redis.call('HINCRBY', KEYS[4], 'last', 1)
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  redis.call('ZADD', KEYS[2], n, ARGV[at])
  redis.call('ZADD', KEYS[3], ARGV[at + 2], ARGV[at])
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[2], 'LIMIT', 0, 500)) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end
return redis.call('HGET', KEYS[4], 'epoch')
";

/// Keys as for [`TELL`]. Arguments: the epoch and the last change that are known, and how many to tell. The
/// answer: the epoch, and the number and the text of each.
const ASK: &str = r"
local epoch = redis.call('HGET', KEYS[4], 'epoch') or ''
local last = ARGV[2]
if epoch ~= ARGV[1] then last = '0' end
local told = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. last, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local answer = {}
for at = 1, #told, 2 do
  answer[#answer + 1] = told[at + 1]
  answer[#answer + 1] = redis.call('HGET', KEYS[1], told[at]) or ''
end
return {epoch, answer}
";

/// A gateway's side of it.
pub(super) struct Sharing {
    store: Store,
    keys: [String; 4],
    tell: Script,
    ask: Script,
    /// The store's, as it was last.
    epoch: String,
    last: u64,
    /// Whether the last round failed, so that the log tells it once.
    failing: bool,
}

impl Sharing {
    pub(super) fn new(store: &Store) -> Self {
        let key = |what: &str| store.key("revocations", what);
        Self {
            keys: [key("texts"), key("order"), key("ends"), key("counter")],
            store: store.within(TIMEOUT),
            tell: Script::new(TELL),
            ask: Script::new(ASK),
            epoch: String::new(),
            last: 0,
            failing: false,
        }
    }

    /// Tells what is new here, then takes in what is new there.
    pub(super) async fn round(&mut self, revocations: &Revocations) {
        let outcome = self.exchange(revocations).await;
        match &outcome {
            Err(failure) if !self.failing => {
                log::warn!("revocations are not shared store={} cause={failure}", self.store.name());
            }
            Ok(()) if self.failing => log::info!("revocations are shared again store={}", self.store.name()),
            _ => {}
        }
        self.failing = outcome.is_err();
    }

    async fn exchange(&mut self, revocations: &Revocations) -> Result<(), StoreFailure> {
        self.take_in(revocations).await?;
        self.tell(revocations).await?;
        self.take_in(revocations).await
    }

    fn call<'a>(script: &'a Script, keys: &[String]) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        call
    }

    async fn tell(&self, revocations: &Revocations) -> Result<(), StoreFailure> {
        loop {
            let batch: Vec<_> = {
                let ledger = revocations.ledger.lock();
                let untold = ledger.untold.iter().take(BATCH);
                untold.filter_map(|id| Some((*id, ledger.by_id.get(id)?.clone()))).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            let now = now();
            let mut call = Self::call(&self.tell, &self.keys);
            call.arg(format!("{now:x}-{:x}", std::process::id())).arg(now / 1000);
            for (id, one) in &batch {
                // The end as a number that Redis can order: those of files, which have none, are not told.
                call.arg(id.to_string()).arg(json!(one.written()).to_string()).arg(one.until);
            }
            self.store.run::<String>(&call).await?;
            let mut ledger = revocations.ledger.lock();
            for (id, one) in batch {
                // It may have changed meanwhile.
                if ledger.by_id.get(&id).is_none_or(|known| *known == one) {
                    ledger.untold.remove(&id);
                }
            }
        }
    }

    async fn take_in(&mut self, revocations: &Revocations) -> Result<(), StoreFailure> {
        loop {
            let mut call = Self::call(&self.ask, &self.keys);
            call.arg(&self.epoch).arg(self.last).arg(BATCH);
            let (epoch, told): (String, Vec<String>) = self.store.run(&call).await?;
            let mut ledger = revocations.ledger.lock();
            if epoch != self.epoch {
                // It was emptied, or is another one: it knows nothing of what is known here.
                let all: Vec<RevocationId> = ledger.by_id.keys().copied().collect();
                ledger.untold.extend(all);
                (self.epoch, self.last) = (epoch, 0);
            }
            let (pairs, _) = told.as_chunks::<2>();
            let full = pairs.len() == BATCH;
            let (before, from) = (ledger.generation, self.last);
            for [number, text] in pairs {
                // Redis writes scores as numbers of double precision; these are whole.
                self.last = number.parse().unwrap_or(self.last);
                self.learn(&mut ledger, revocations, text);
            }
            if ledger.generation != before {
                revocations.changed.send_replace(ledger.generation);
            }
            // What does not move on, such as a number that is none, would be told for ever.
            if !full || self.last <= from {
                return Ok(());
            }
        }
    }

    fn learn(&self, ledger: &mut super::Ledger, revocations: &Revocations, text: &str) {
        // What is over was forgotten between two of the store's steps.
        if text.is_empty() {
            return;
        }
        let now = now();
        let one = match read(text, now) {
            Ok(one) => one,
            Err(problem) => {
                log::warn!("revocations: the store holds what is none store={} {problem}", self.store.name());
                return;
            }
        };
        let id = one.id();
        let is_over = one.until <= now / 1000;
        // More than may be kept: those that are known already still change.
        let is_full = ledger.by_id.len() >= ledger.settings.most && !ledger.by_id.contains_key(&id);
        if is_full && !is_over {
            log::error!("revocations: there are more than may be kept, one is not taken in id={id}");
        }
        if !is_over && !is_full {
            ledger.untold.remove(&id);
            revocations.merge(ledger, &one, false);
        }
    }
}

/// What the store holds. A clock that is far ahead, or whoever else writes there, has not the last word for
/// good: what was said at a time that cannot be comes before all else that is said of the same thing.
fn read(text: &str, now: u64) -> Result<Revocation, Problem> {
    let defaults = Defaults { now, until: u64::MAX, before_now: false };
    let mut one = Written::parse(text.as_bytes())?.read(defaults)?;
    if one.made > now.saturating_add(AHEAD) {
        one.made = 0;
    }
    Ok(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn nobody_has_the_last_word_for_good() {
        let at = |made: u64, withdrawn: bool| {
            let text = json!({ "token_id": "t1", "made": made, "withdrawn": withdrawn }).to_string();
            read(&text, NOW).unwrap()
        };
        let ours = at(NOW, false);
        assert!(!ours.merged(&at(u64::MAX, true)).withdrawn, "a time that cannot be");
        assert!(ours.merged(&at(NOW + AHEAD, true)).withdrawn, "a clock that is somewhat ahead");
        assert!(ours.merged(&at(NOW + 1, true)).withdrawn && !ours.merged(&at(NOW - 1, true)).withdrawn);
        assert!(read("{}", NOW).is_err());
    }
}
