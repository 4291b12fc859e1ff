//! What is not taken on while the gateway itself is overloaded. Nobody looks here otherwise.

use crate::policy::Verdict;
use crate::proxy::RequestContext;
use crate::rejection::Rejection;
use crate::runtime::pressure::Level;
use crate::runtime::{Route, Snapshot, Target};
use crate::values::{Importance, ListenerId};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};

/// True if no request of the route is taken, whoever asks: it is refused before anything is done for it.
pub fn sheds_any(level: Level, route: &Route, snapshot: &Snapshot, listener: ListenerId) -> bool {
    if is_spared(route, snapshot, listener) {
        return false;
    }
    let of_plans = || snapshot.identity.plans().values().filter_map(|plan| plan.importance).max();
    let most =
        route.importance.unwrap_or_else(|| of_plans().max(Some(Importance::default())).unwrap_or_default());
    level.sheds(most)
}

/// True if this request is not taken, of which is known now who asks.
pub fn sheds(level: Level, cx: &RequestContext) -> bool {
    let spared = cx.route().is_none_or(|route| is_spared(route, &cx.snapshot, cx.listener_id()));
    !spared && level.sheds(cx.importance())
}

/// The gateway has enough to do with what it has.
pub fn refuse() -> Verdict {
    let title = "There is too much to do for now";
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", title)
        .header(RETRY_AFTER, HeaderValue::from_static("1"));
    Verdict::Reject(Box::new(rejection))
}

/// Health checks: they come by a listener of their own, or ask for what the gateway answers by itself.
fn is_spared(route: &Route, snapshot: &Snapshot, listener: ListenerId) -> bool {
    let by_itself = matches!(route.target, Target::Local(_)) && route.importance.is_none();
    by_itself || snapshot.listener(listener).is_some_and(|listener| listener.config.limits.spare)
}
