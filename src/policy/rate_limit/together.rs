//! A request at the limits that gateways decide together.

use super::lease::{Leased, Leases, Need, Turn};
use super::limit::Limit;
use super::shared::{Decision, LimitKey, Shared, SharedAsk};
use super::{Mark, RateLimit};
use crate::outbound::redis::StoreFailure;
use crate::policy::context::PolicyContext;
use crate::policy::shared::gcra::{Pace, Ticks};
use crate::policy::shared::store_failure::{LIMIT_UNAVAILABLE, OnFailure};
use crate::rejection::Rejection;
use http::StatusCode;
use pingora_http::RequestHeader;
use std::sync::Arc;

/// What was taken from a limit that gateways share.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    shared: Arc<Shared>,
    key: LimitKey,
    /// When all of it is there again, by this gateway's clock, as far as is known.
    full: Ticks,
    /// Where it was leased.
    leases: Option<Arc<Leases>>,
}

impl Remote {
    pub(super) const fn full(&self) -> Ticks {
        self.full
    }

    /// Gives back what was taken: to the lease, if there are leases, else to the store.
    pub(super) fn give_back(&mut self, pace: Pace, taken: Ticks, now: Ticks) {
        match &self.leases {
            Some(leases) => leases.give_back(&self.key, taken, (pace.interval(), now)),
            None => self.adjust(pace, -taken.cast_signed()),
        }
    }

    /// Moves it on in the store by what the request turned out to cost, or back.
    pub(super) fn adjust(&mut self, pace: Pace, more: i64) {
        self.shared.adjust(self.key, pace, more);
        // What the client is told is what the store has once this has come there.
        self.full = self.full.saturating_add_signed(more);
    }
}

/// A limit that the store is asked about.
struct Asked<'l> {
    limit: &'l Limit,
    turn: Option<Turn<'l>>,
}

impl<const CALLER: bool> RateLimit<CALLER> {
    /// Those that gateways decide together.
    pub(super) async fn take_there(
        &self,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let (mut asked, mut asks, mut leased) = (Vec::new(), Vec::new(), Vec::new());
        let mut by = None;
        for limit in self.limits.iter().filter(|limit| !limit.terms.shadow) {
            let Some((_, shared)) = &limit.terms.shared else { continue };
            let Some(mut ask) = Shared::ask(limit, head, cx) else { continue };
            let turn = match limit.lease() {
                None => None,
                Some((units, leases)) => match leases.take(ask.key, ask.need(*units), self.store.now()) {
                    Leased::Taken(full) => {
                        leased.push(limit);
                        cx.limits.push(Mark::there(limit, &ask, true, full));
                        continue;
                    }
                    Leased::Refused { wait, full } => {
                        cx.limits.push(Mark::there(limit, &ask, false, full));
                        return Err(Self::refuse(Some(limit), wait));
                    }
                    Leased::Ask(most, turn) => {
                        ask.most = most;
                        turn
                    }
                },
            };
            by.get_or_insert(shared);
            asked.push(Asked { limit, turn });
            asks.push(ask);
        }
        if let Some(shared) = by {
            match shared.take(&asks).await {
                Ok(decision) => self.told_by(asked, &asks, &decision, cx)?,
                Err(failure) => {
                    let limits: Vec<&Limit> = asked.into_iter().map(|asked| asked.limit).collect();
                    self.take_alone(&limits, &failure, head, cx)?;
                }
            }
        }
        leased.iter().for_each(|limit| limit.terms.metrics.admitted());
        Ok(())
    }

    /// The store has decided.
    fn told_by(
        &self,
        asked: Vec<Asked<'_>>,
        asks: &[SharedAsk],
        decision: &Decision,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let now = self.store.now();
        let mut refusal = None;
        for (at, (Asked { limit, turn }, ask)) in asked.into_iter().zip(asks).enumerate() {
            let Some((ahead, granted)) = decision.of(at, ask.cost) else { continue };
            let full = now.saturating_add(ahead);
            match (decision.refused, turn) {
                (None, turn) => {
                    limit.terms.metrics.admitted();
                    turn.into_iter().for_each(|turn| turn.granted(granted, (full, now)));
                }
                (Some((by, wait)), turn) if by == at => {
                    turn.into_iter().for_each(|turn| turn.refused((full, now)));
                    refusal = Some(Self::refuse(Some(limit), wait));
                }
                _ => {}
            }
            cx.limits.push(Mark::there(limit, ask, decision.refused.is_none(), full));
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The store does not answer: each limit does what it says for that case.
    fn take_alone(
        &self,
        limits: &[&Limit],
        failure: &StoreFailure,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        limits.iter().for_each(|limit| limit.terms.metrics.store_failed());
        if let Some(limit) = limits.iter().find(|limit| limit.terms.on_failure == OnFailure::Deny) {
            let title = "This cannot be answered now";
            let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, LIMIT_UNAVAILABLE, title);
            return Err(Box::new(rejection.detail(format!("limit={} {failure}", limit.name()))));
        }
        let alone = limits.iter().filter(|limit| limit.terms.on_failure == OnFailure::Local);
        let asked =
            alone.filter_map(|limit| Some((*limit, limit.ask_alone(&self.store, head, cx)?))).collect();
        self.take(asked, cx)
    }
}

impl SharedAsk {
    /// What it needs of a lease of so many units.
    const fn need(&self, units: u32) -> Need {
        Need { pace: self.pace, cost: self.cost, most: self.pace.cost(units) }
    }
}

impl Mark {
    /// Of a limit that gateways decide together.
    fn there(limit: &Limit, ask: &SharedAsk, admitted: bool, full: Ticks) -> Self {
        let leases = limit.lease().map(|(_, leases)| Arc::clone(leases));
        let remote =
            limit.terms.shared.as_ref().map(|(_, shared)| {
                Box::new(Remote { shared: Arc::clone(shared), key: ask.key, full, leases })
            });
        Self {
            family: limit.family().id(),
            digest: 0,
            pace: ask.pace,
            cost: ask.cost,
            taken: if admitted { ask.cost } else { 0 },
            refused: !admitted,
            settled: false,
            remote,
        }
    }
}
