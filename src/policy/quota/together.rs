//! A request at the quotas that gateways count together.

use super::count::{At, Millis};
use super::shared::{Decision, Made, Shared};
use super::store::{Ask, State};
use super::{Allowance, Mark, Quotas, refuse};
use crate::outbound::redis::StoreFailure;
use crate::policy::context::PolicyContext;
use crate::policy::shared::store_failure::{LIMIT_UNAVAILABLE, OnFailure};
use crate::rejection::Rejection;
use crate::values::Period;
use http::StatusCode;
use pingora_http::RequestHeader;
use std::sync::Arc;

/// What was taken from a quota that gateways count together.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    shared: Arc<Shared>,
    key: String,
    /// How it was after that, by the store's clock.
    pub state: State,
}

impl Remote {
    /// The store's time.
    pub(super) fn now(&self) -> Millis {
        self.shared.now()
    }

    /// Takes so much in place of what was taken then.
    pub(super) fn adjust(&self, taken_at: At, (taken, cost): (u64, u64)) {
        let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
        if cost != taken {
            self.shared.adjust(self.key.clone(), taken_at, signed(cost) - signed(taken));
        }
    }

    /// As [`Self::adjust`], and knows it.
    pub(super) fn settle(&mut self, taken_at: At, (taken, cost): (u64, u64)) {
        self.adjust(taken_at, (taken, cost));
        self.state.used = self.state.used.saturating_add(cost).saturating_sub(taken);
    }
}

impl Quotas {
    /// From those that gateways count together.
    pub(super) async fn take_there(
        &self,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let quotas: Vec<&Allowance> =
            self.all.iter().filter(|quota| !quota.terms.shadow && quota.terms.shared.is_some()).collect();
        let Some((_, shared)) = quotas.first().and_then(|quota| quota.terms.shared.as_ref()) else {
            return Ok(());
        };
        let mut asked = Vec::new();
        let mut failure = StoreFailure::Refused("its clock jumps".to_owned());
        // The second time it is known what time it is there.
        for _ in 0..2 {
            let now = shared.now();
            asked.clear();
            for quota in &quotas {
                if let Some((ask, period)) = quota.ask(head, cx, now) {
                    asked.push((*quota, (shared.key(&ask), ask, period)));
                }
            }
            if asked.is_empty() {
                return Ok(());
            }
            let asks: Vec<(String, Ask<'_>)> =
                asked.iter().map(|(_, (key, ask, _))| (key.clone(), ask.clone())).collect();
            match shared.take(&asks).await {
                Ok(Decision::Made(made)) => return self.told_by(shared, asked, made, head, cx),
                Ok(Decision::OtherTime) => {}
                Err(why) => {
                    failure = why;
                    break;
                }
            }
        }
        let quotas: Vec<&Allowance> = asked.iter().map(|(quota, _)| *quota).collect();
        drop(asked);
        self.take_alone(&quotas, &failure, head, cx)
    }

    /// The store has decided.
    fn told_by(
        &self,
        shared: &Arc<Shared>,
        asked: Vec<(&Allowance, (String, Ask<'_>, Period))>,
        Made { refused, states }: Made,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let mut marks = Vec::with_capacity(asked.len());
        let mut by = None;
        for (at, ((quota, (key, ask, period)), state)) in asked.into_iter().zip(states).enumerate() {
            if let Some((then, more)) = self.store.know(&ask, state.used, || quota.label(head, cx)) {
                shared.adjust(key.clone(), then, i64::try_from(more).unwrap_or(i64::MAX));
            }
            if refused.is_none() {
                quota.terms.metrics.admitted();
            } else if refused.is_some_and(|(by, _)| by == at) {
                by = Some(quota);
            }
            let remote = Remote { shared: Arc::clone(shared), key, state };
            marks.push(Mark { remote: Some(Box::new(remote)), ..Mark::new(&ask, period) });
        }
        let Some((at, wait)) = refused else {
            cx.quotas.extend(marks);
            return Ok(());
        };
        cx.quotas.extend(Mark::refused(marks, (at, wait)));
        Err(refuse(by, wait))
    }

    /// The store does not answer: each quota does what it says for that case.
    fn take_alone<'q>(
        &'q self,
        quotas: &[&'q Allowance],
        failure: &StoreFailure,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        quotas.iter().for_each(|quota| quota.terms.metrics.store_failed());
        if let Some(quota) = quotas.iter().find(|quota| quota.terms.on_failure == OnFailure::Deny) {
            let title = "This cannot be answered now";
            let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, LIMIT_UNAVAILABLE, title);
            return Err(Box::new(rejection.detail(format!("quota={} {failure}", quota.name()))));
        }
        let alone = quotas.iter().filter(|quota| quota.terms.on_failure == OnFailure::Local).copied();
        self.take(alone, head, cx, |ask| self.store.note_untold(ask))
    }
}
