//! What a fetch that failed is for those that waited for it. An upstream in need is not asked by each of them: one
//! tries again for all, since what failed may have been the first one's own (a field that nobody else sends); if that
//! fails as well, it is theirs too. Who comes later tries anew.

use super::kept::Kept;
use crate::cache::store::flight::Failure;
use crate::config::model::upstream::Condition;
use crate::proxy::phases::fallback;
use crate::proxy::{Gateway, RequestContext, reply};
use crate::rejection::Rejection;
use http::StatusCode;
use pingora_error::Result;
use pingora_proxy::Session;

/// So many fetches may fail for a request that waits for them, before it fails as well.
pub(super) const FETCHES: usize = 2;

/// Why such a request failed, for its client and the log.
const CODE: &str = "fetch_failed";

/// The errors instead of which what is stale may be served (RFC 5861 section 4).
pub(super) const fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// The upstream answered with an error. Those that are no failures, such as 501, may be one request's.
pub(super) fn answered(status: StatusCode) -> Failure {
    let status = status.as_u16();
    Failure {
        status: Some(status),
        condition: Some(Condition::Status(status)),
        is_outage: is_failure(status),
    }
}

/// Fails a request as the fetches did that it waited for: with the answer that its route has for that, or with the
/// status that others got. The upstream's words are theirs alone, since they must not be shared.
///
/// # Errors
/// The client is gone.
pub(super) async fn as_well(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    (failure, kept): (Failure, &mut Option<Kept>),
) -> Result<bool> {
    if let Some(visit) = &mut cx.visit {
        visit.report.collapsed = true;
        visit.kept = kept.take();
    }
    cx.exchange.failure = failure.condition;
    if Box::pin(fallback::answer(session, cx, CODE)).await?.is_some() {
        return Ok(true);
    }
    let status = failure.status.and_then(|status| StatusCode::from_u16(status).ok());
    let title = "What was fetched for several requests at once could not be had";
    let rejection = Rejection::new(status.unwrap_or(StatusCode::BAD_GATEWAY), CODE, title);
    Box::pin(reply::reject(gateway, session, cx, &rejection)).await?;
    Ok(true)
}
