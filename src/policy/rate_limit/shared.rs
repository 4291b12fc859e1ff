//! Limits that several gateways decide together, in a store that they share.

use super::limit::Limit;
use crate::outbound::redis::{Script, Store, StoreFailure};
use crate::policy::context::PolicyContext;
use crate::policy::shared::gcra::{Pace, TICKS, Ticks};
use pingora_http::RequestHeader;

/// Takes from all keys or from none, by the server's clock. A key holds when all of it is there again, in
/// microseconds since 1970, and the interval that this was counted with; it goes by itself when all is there.
/// Numbers of Lua are exact to a quarter of a microsecond until the year 2255.
///
/// For each key: interval and burst in microseconds, cost in microseconds. The answer is, for each key, how
/// far ahead it is, and before all of them which one refuses (0: none) and how long it has to wait.
///
/// Where something is leased, the most to take of each key follows, in microseconds, and of each key the answer
/// ends with what was taken, in nanoseconds.
const TAKE: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local by, wait, ahead, held = 0, 0, {}, {}
local leases = #ARGV > 3 * #KEYS
for i = 1, #KEYS do
  local interval, whole, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local left = 0
  local text = redis.call('GET', KEYS[i])
  if text then
    local full, counted = string.match(text, '^(%S+) (%S+)$')
    left = math.max(0, tonumber(full) - now)
    if tonumber(counted) ~= interval then left = left * interval / tonumber(counted) end
  end
  held[i] = left
  ahead[i] = left + cost
  if ahead[i] - whole > 0.5 and ahead[i] - whole > wait then by, wait = i, ahead[i] - whole end
end
local answer = { by, math.ceil(wait) }
for i = 1, #KEYS do
  if by == 0 then
    if leases then
      local taken = math.max(ahead[i] - held[i], math.min(tonumber(ARGV[3 * #KEYS + i]), tonumber(ARGV[3 * i - 1]) - held[i]))
      ahead[i] = held[i] + taken
      answer[#KEYS + i + 2] = math.floor(taken * 1000)
    end
    if ahead[i] > 0 then
      redis.call('SET', KEYS[i], string.format('%.2f %s', now + ahead[i], ARGV[3 * i - 2]), 'PX', math.ceil(ahead[i] / 1000))
    end
    answer[i + 2] = math.ceil(ahead[i])
  else
    answer[i + 2] = math.ceil(held[i])
  end
end
return answer
";

/// Moves a key on or back: what a request turned out to cost, or what is given back.
const MOVE: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, more = tonumber(ARGV[1]), tonumber(ARGV[2])
local left = 0
local text = redis.call('GET', KEYS[1])
if text then
  local full, counted = string.match(text, '^(%S+) (%S+)$')
  left = math.max(0, tonumber(full) - now)
  if tonumber(counted) ~= interval then left = left * interval / tonumber(counted) end
end
left = left + more
if left > 0 then
  redis.call('SET', KEYS[1], string.format('%.2f %s', now + left, ARGV[1]), 'PX', math.ceil(left / 1000))
else
  redis.call('DEL', KEYS[1])
end
return 0
";

/// What the limits of a policy ask a store with.
#[derive(Clone)]
pub(super) struct Shared {
    store: Store,
    take: Script,
    adjust: Script,
}

/// What is asked of one limit there.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedAsk {
    pub key: LimitKey,
    pub pace: Pace,
    pub cost: Ticks,
    /// What to take if there is as much: the cost, or more where units are leased.
    pub most: Ticks,
}

/// A key of a limit, the same for all gateways: half of a SHA-256.
pub(super) type LimitKey = [u8; 16];

/// What the store decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Which of them refuses for longest, and for how long.
    pub refused: Option<(usize, Ticks)>,
    /// How far each is ahead of the time at which all of it is there.
    ahead: Vec<Ticks>,
    /// What was taken of each, if something is leased.
    granted: Vec<Ticks>,
}

impl Decision {
    /// How far one is ahead, and what was taken of it where it was asked for `cost` at least.
    pub(super) fn of(&self, at: usize, cost: Ticks) -> Option<(Ticks, Ticks)> {
        Some((*self.ahead.get(at)?, self.granted.get(at).copied().unwrap_or(cost)))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.store).finish()
    }
}

impl Shared {
    pub(super) fn new(store: &Store) -> Self {
        Self { store: store.clone(), take: Script::new(TAKE), adjust: Script::new(MOVE) }
    }

    /// What a request asks of a limit.
    pub(super) fn ask(limit: &Limit, head: &RequestHeader, cx: &PolicyContext) -> Option<SharedAsk> {
        let (pace, units) = limit.price(head, cx)?;
        let cost = pace.cost(units);
        let digest = limit.key().sha256(&limit.terms.id, head, cx);
        let key = digest.bytes().first_chunk().copied().unwrap_or_default();
        Some(SharedAsk { key, pace, cost, most: cost })
    }

    /// What a key is called there.
    fn key(&self, key: &LimitKey) -> String {
        self.store.key("limit", format_args!("{:032x}", u128::from_be_bytes(*key)))
    }

    /// Takes from all or from none.
    ///
    /// # Errors
    /// The store did not answer in time, or not with what was asked for.
    pub(super) async fn take(&self, asks: &[SharedAsk]) -> Result<Decision, StoreFailure> {
        let mut script = self.take.prepare_invoke();
        for ask in asks {
            script.key(self.key(&ask.key));
            script.arg(micros(ask.pace.interval())).arg(micros(ask.pace.whole())).arg(micros(ask.cost));
        }
        if asks.iter().any(|ask| ask.most > ask.cost) {
            for ask in asks {
                script.arg(micros(ask.most));
            }
        }
        let answer: Vec<i64> = self.store.run(&script).await?;
        let number = |number: &i64| u64::try_from(*number).unwrap_or(0);
        let ticks = |micros: &i64| number(micros).saturating_mul(1000 * TICKS);
        match answer.as_slice() {
            [by, wait, rest @ ..] if rest.len() == asks.len() || rest.len() == 2 * asks.len() => {
                let by = usize::try_from(*by).ok().and_then(|by| by.checked_sub(1));
                let refused = by.map(|by| (by, ticks(wait)));
                let (ahead, granted) = rest.split_at(asks.len());
                let granted = granted.iter().map(|nanos| number(nanos).saturating_mul(TICKS));
                Ok(Decision { refused, ahead: ahead.iter().map(ticks).collect(), granted: granted.collect() })
            }
            _ => Err(StoreFailure::Refused("another answer than a limit's".into())),
        }
    }

    /// Moves a key on by what a request turned out to cost, or back by what it did not. Nobody waits for it,
    /// and where the store does not answer it is lost.
    pub(super) fn adjust(&self, key: LimitKey, pace: Pace, more: i64) {
        let shared = self.clone();
        tokio::spawn(async move {
            let mut script = shared.adjust.prepare_invoke();
            let more = more as f64 / (1000 * TICKS) as f64;
            script.key(shared.key(&key)).arg(micros(pace.interval())).arg(format!("{more:.3}"));
            if let Err(failure) = shared.store.run::<i64>(&script).await {
                log::debug!("a limit was not adjusted: {failure}");
            }
        });
    }
}

/// Microseconds, to a ten-thousandth: in whole numbers, for of a decision in Redis a third was the printing of three
/// floating-point numbers.
fn micros(ticks: Ticks) -> String {
    const MICRO: Ticks = 1000 * TICKS;
    const PARTS: Ticks = 10_000;
    let parts = (ticks % MICRO * PARTS + MICRO / 2) / MICRO;
    let (whole, parts) = (ticks / MICRO + parts / PARTS, parts % PARTS);
    if parts == 0 { whole.to_string() } else { format!("{whole}.{parts:04}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn microseconds_are_written_to_a_ten_thousandth(ticks in 0..Ticks::MAX) {
            let text = micros(ticks);
            let (whole, parts) = text.split_once('.').unwrap_or((&text, "0000"));
            prop_assert_eq!(parts.len(), 4);
            let parts: u128 = format!("{whole}{parts}").parse().expect("digits alone");
            let exact = u128::from(ticks) * 10_000;
            prop_assert!(exact.abs_diff(parts * 16_000) <= 8_000, "{} for {}", text, ticks);
        }
    }

    #[test]
    fn what_is_even_is_written_short_and_what_is_nearly_one_more_as_one_more() {
        assert_eq!(micros(0), "0");
        assert_eq!(micros(16_000), "1");
        assert_eq!(micros(24_000), "1.5000");
        assert_eq!(micros(15_999), "0.9999");
        assert_eq!(micros(31_999), "1.9999");
        assert_eq!(micros(Ticks::MAX), "1152921504606846.9759");
    }
}
