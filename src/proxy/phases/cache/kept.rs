//! What is kept for a request, too old as it is, while its upstream is asked: it may stand in, by its own terms, the
//! cache's, or the route's `fallback`.

use super::{hit, policy};
use crate::cache::rules::date;
use crate::cache::rules::key::Key;
use crate::cache::store::Store;
use crate::cache::store::body::Follower;
use crate::cache::store::object::Object;
use crate::proxy::RequestContext;
use crate::proxy::phases::fallback;
use crate::telemetry::metrics::Substitute;
use pingora_error::Result;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Duration;

/// A kept answer, and the request's place in its body, if that comes from disk.
#[derive(Debug)]
pub struct Kept {
    pub(super) object: Arc<Object>,
    pub(super) place: Option<Follower>,
    /// It may be served if the upstream fails, whatever the route says (RFC 5861 section 4).
    pub(super) or_stale: bool,
}

/// What a fetch asks about, as its own hooks see it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) store: Arc<Store>,
    pub(super) key: Arc<Key>,
    pub(super) object: Arc<Object>,
}

/// Whether something is kept for a request that may stand in so long after it was fresh.
pub fn can_stand_in(cx: &RequestContext, most: Duration) -> bool {
    let is_good = |store: &Store, key: &Key, object: &Object| {
        object.head.terms.may_stand_in(date::now(), most) && !store.is_gone(key, object)
    };
    if let Some(fill) = &cx.fill {
        return fill.known().is_some_and(|known| is_good(&known.store, &known.key, &known.object));
    }
    let of_visit = || {
        let visit = cx.visit.as_ref()?;
        Some(is_good(&visit.store, &visit.key, &visit.kept.as_ref()?.object))
    };
    of_visit().unwrap_or(false)
}

/// Whether the route's `fallback` may want what is kept.
pub(super) fn is_wanted(cx: &RequestContext) -> bool {
    let fallback = cx.route().and_then(|route| route.fallback.as_ref());
    fallback.is_some_and(crate::runtime::Fallback::has_stale) && policy(&cx.snapshot, cx).is_some()
}

/// Serves what is kept in the place of an upstream that failed; the status. None if its beginning is gone.
///
/// # Errors
/// The client is gone, or what it was sent broke off.
pub async fn stand_in(
    session: &mut Session,
    cx: &mut RequestContext,
    code: &'static str,
) -> Result<Option<u16>> {
    let Some(kept) = cx.visit.as_mut().and_then(|visit| visit.kept.take()) else { return Ok(None) };
    Ok(serve(session, cx, kept, code).await?.then(|| status_of(session)))
}

fn status_of(session: &Session) -> u16 {
    session.response_written().map_or(200, |head| head.status.as_u16())
}

/// The same for one that is in hand. False if its beginning is gone.
pub(super) async fn serve(
    session: &mut Session,
    cx: &mut RequestContext,
    Kept { object, place, .. }: Kept,
    code: &'static str,
) -> Result<bool> {
    let before = cx.exchange.substitute.replace(Substitute::Stale);
    if hit(session, cx, &object, place).await? {
        fallback::note(cx, Substitute::Stale, code);
        return Ok(true);
    }
    cx.exchange.substitute = before;
    Ok(false)
}
