//! Requests that wait for what another one fetches.

use super::kept::{self, Kept};
use super::{Guest, failed, go_on, hit, is_for, serve};
use crate::cache::store::flight::{Flight, Stage};
use crate::proxy::{Gateway, RequestContext};
use pingora_error::Result;
use pingora_proxy::Session;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Waits for a fetch, and makes of what came of it what it is for this request: whether that is served now. If it is
/// nothing, the request looks again: after which fetch, if that one failed. `failures` are those that have failed for it.
pub(super) async fn follow(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    (guest, kept): (&Guest, &mut Option<Kept>),
    (flight, key, failures): (Arc<Flight>, &[u8], &mut usize),
) -> Result<ControlFlow<bool, Option<Arc<Flight>>>> {
    let landed = tokio::time::timeout(guest.patience, flight.landed()).await;
    let is_served = match landed.unwrap_or(Stage::Private) {
        // It was asked for before a purge, and is none for those that come after it.
        Stage::Answer(object) if guest.store.is_purged(&guest.key, &object) => {
            guest.store.flights.retire(key, &flight);
            return Ok(ControlFlow::Continue(None));
        }
        Stage::Answer(object) if is_for(&object, session.req_header()) => {
            if let Some(visit) = &mut cx.visit {
                visit.report.collapsed = true;
            }
            serve::shared(session, cx, &object, None).await? || go_on(cx, kept)?
        }
        // It was for others: what varies is known now.
        Stage::Answer(_) => return Ok(ControlFlow::Continue(None)),
        Stage::StandIn(code) => match kept.take() {
            Some(kept) => kept::serve(session, cx, kept, code).await?,
            None => false,
        },
        Stage::Failed(failure) => {
            let may_be_stale = failure.status.is_none_or(failed::is_failure);
            if let Some(kept) = kept.take_if(|kept| kept.or_stale && may_be_stale) {
                return hit(session, cx, &kept.object, kept.place).await.map(ControlFlow::Break);
            }
            *failures += 1;
            match failure.is_outage {
                true if *failures < failed::FETCHES => return Ok(ControlFlow::Continue(Some(flight))),
                true => failed::as_well(gateway, session, cx, (failure, kept)).await?,
                false => go_on(cx, kept)?,
            }
        }
        Stage::Private | Stage::Asking => go_on(cx, kept)?,
    };
    Ok(ControlFlow::Break(is_served))
}
