//! Quotas that several gateways count together, in a store that they share.
//!
//! The store's clock says when it is, the gateway says which period of the calendar that is in its zone. Who
//! is wrong about the time is told so, and asks again.

use super::count::{At, Millis};
use super::parts::PARTS;
use super::store::{Ask, State};
use crate::outbound::redis::{Script, Store, StoreFailure};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Takes from all keys or from none. Of the calendar a key holds when its period ends and what is used; of a
/// rolling window what is used by part. It goes by itself when nothing of it counts any more.
///
/// For each key: `c` or `r`; the end of the period, or the length of a part; the start of the period; cost;
/// most; times in milliseconds since 1970. The answer: which one refuses (0: none, -1: that is not the
/// period), how long it has to wait, the time; and of each key what is used and when more comes back.
const TAKE: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local by, wait, answer, keys = 0, 0, {}, {}
for i = 1, #KEYS do
  local at = 5 * (i - 1)
  local key = { kind = ARGV[at + 1], span = tonumber(ARGV[at + 2]), cost = tonumber(ARGV[at + 4]), used = 0, list = {}, stale = {} }
  local start, most = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 5])
  local all = redis.call('HGETALL', KEYS[i])
  local delay = 0
  if key.kind == 'c' then
    if now < start or now >= key.span then return { -1, 0, now } end
    local ends, used = 0, 0
    for j = 1, #all, 2 do
      if all[j] == 'end' then ends = tonumber(all[j + 1]) else used = tonumber(all[j + 1]) end
    end
    if ends > now and ends <= key.span + APART then key.span, key.used = ends, used end
    if key.used + key.cost > most then delay = key.span - now end
  else
    key.part = math.floor(now / key.span)
    for j = 1, #all, 2 do
      local part, used = tonumber(all[j]), tonumber(all[j + 1])
      if key.part - part <= PARTS then
        table.insert(key.list, { part, used })
        key.used = key.used + used
      else
        table.insert(key.stale, all[j])
      end
    end
    table.sort(key.list, function(a, b) return a[1] < b[1] end)
    local left = key.used + key.cost - most
    if left > 0 then
      delay = (key.part + PARTS + 1) * key.span - now
      for _, one in ipairs(key.list) do
        left = left - one[2]
        if left <= 0 then delay = (one[1] + PARTS + 1) * key.span - now; break end
      end
    end
  end
  if delay > wait then by, wait = i, delay end
  keys[i] = key
end
answer = { by, wait, now }
for i = 1, #KEYS do
  local key = keys[i]
  if by == 0 and key.cost > 0 then
    key.used = key.used + key.cost
    if key.kind == 'c' then
      redis.call('HSET', KEYS[i], 'end', string.format('%.0f', key.span), 'used', string.format('%.0f', key.used))
      redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', key.span))
    else
      redis.call('HINCRBY', KEYS[i], string.format('%.0f', key.part), string.format('%.0f', key.cost))
      if #key.stale > 0 then redis.call('HDEL', KEYS[i], unpack(key.stale)) end
      redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', (key.part + PARTS + 1) * key.span))
      table.insert(key.list, { key.part, key.cost })
    end
  end
  local more = 0
  if key.used > 0 then
    if key.kind == 'c' then more = key.span
    else
      for _, one in ipairs(key.list) do
        if one[2] > 0 then more = (one[1] + PARTS + 1) * key.span; break end
      end
    end
  end
  table.insert(answer, key.used)
  table.insert(answer, more)
end
return answer
";

/// Adds to what a key has used, or gives back, in the period that it was taken in; nothing once that is over.
///
/// `c` or `r`; the end of the period, or the length of a part; when it was taken; how much.
const MOVE: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local span, more = tonumber(ARGV[2]), tonumber(ARGV[4])
local field, ends = 'used', span
if ARGV[1] == 'c' then
  local known = tonumber(redis.call('HGET', KEYS[1], 'end') or 0)
  if span <= now or (known ~= span and (more < 0 or known > now)) then return 0 end
  redis.call('HSET', KEYS[1], 'end', string.format('%.0f', span))
  if known ~= span then redis.call('HSET', KEYS[1], 'used', '0') end
else
  local part = math.floor(tonumber(ARGV[3]) / span)
  field, ends = string.format('%.0f', part), (part + PARTS + 1) * span
  if ends <= now then return 0 end
end
local used = math.max(0, tonumber(redis.call('HGET', KEYS[1], field) or 0) + more)
redis.call('HSET', KEYS[1], field, string.format('%.0f', used))
if redis.call('PTTL', KEYS[1]) < ends - now then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends)) end
return 1
";

/// What the quotas of a policy ask a store with.
pub(super) struct Shared {
    store: Store,
    take: Script,
    adjust: Script,
    /// By how much the store's clock is ahead of ours, in milliseconds.
    ahead: AtomicI64,
}

/// What the store decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is not the period that was asked for.
    OtherTime,
    /// This.
    Made(Made),
}

/// What there is, and whether it is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// Which of them refuses for longest, and for how long.
    pub refused: Option<(usize, Millis)>,
    /// Of each what is used, and when more comes back, by [`Shared::now`].
    pub states: Vec<State>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.store).finish()
    }
}

impl Shared {
    pub(super) fn new(store: &Store) -> Self {
        let script = |text: &str| {
            // What time zones may differ by, as in `count`.
            Script::new(&text.replace("PARTS", &PARTS.to_string()).replace("APART", "93600000"))
        };
        Self { store: store.clone(), take: script(TAKE), adjust: script(MOVE), ahead: AtomicI64::new(0) }
    }

    /// The store's time, as far as is known.
    pub(super) fn now(&self) -> Millis {
        super::now().saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }

    /// What a key of a quota is called there, for all gateways alike.
    pub(super) fn key(&self, ask: &Ask<'_>) -> String {
        self.store.key("quota", ask.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Takes from all or from none.
    ///
    /// # Errors
    /// The store did not answer in time, or not with what was asked for.
    pub(super) async fn take(&self, asks: &[(String, Ask<'_>)]) -> Result<Decision, StoreFailure> {
        let mut script = self.take.prepare_invoke();
        for (key, ask) in asks {
            let (kind, span, start) = ask.at.written();
            script.key(key);
            script.arg(kind).arg(span).arg(start).arg(ask.cost.min(ask.max)).arg(ask.max);
        }
        let answer: Vec<i64> = self.store.run(&script).await?;
        let wrong = || StoreFailure::Refused("another answer than a quota's".into());
        let [by, wait, now, states @ ..] = answer.as_slice() else { return Err(wrong()) };
        let millis = |number: &i64| u64::try_from(*number).unwrap_or(0);
        self.ahead.store(now.saturating_sub_unsigned(super::now()), Ordering::Relaxed);
        if *by < 0 {
            return Ok(Decision::OtherTime);
        }
        let state = |[used, more]: &[i64; 2]| State {
            used: millis(used),
            more_at: Some(millis(more)).filter(|more| *more > 0),
        };
        let states: Vec<State> = states.as_chunks().0.iter().map(state).collect();
        if states.len() != asks.len() {
            return Err(wrong());
        }
        let refused = usize::try_from(*by).ok().and_then(|by| by.checked_sub(1));
        Ok(Decision::Made(Made { refused: refused.map(|by| (by, millis(wait))), states }))
    }

    /// Adds to what a key has used, or gives back. Nobody waits for it, and where the store does not answer it
    /// is lost.
    pub(super) fn adjust(self: &Arc<Self>, key: String, at: At, more: i64) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let (kind, span, _) = at.written();
            let mut script = shared.adjust.prepare_invoke();
            script.key(&key).arg(kind).arg(span).arg(at.now).arg(more);
            if let Err(failure) = shared.store.run::<i64>(&script).await {
                log::debug!("a quota was not adjusted: {failure}");
            }
        });
    }
}
