//! Request bodies that a policy has to see whole, before an upstream sees anything of them.
//!
//! A body that says how long it is is read before an upstream is chosen, and each attempt gets it
//! from memory. Pingora replays to an upstream what is in its retry buffer of 64 KiB: that buffer is
//! switched on when no more than that is still to come, so that it holds the end of the body, and what
//! it replays is replaced by the whole. A body that does not say how long it is cannot be read ahead so;
//! it is held while the upstream, which has the head already, waits.

use super::body::{too_long, too_slow};
use crate::policy::Verdict;
use crate::policy::shared::whole_body::{Undeclared, WholeBody};
use crate::proxy::{RequestContext, reply};
use crate::rejection::Rejection;
use crate::runtime::Target;
use crate::runtime::body_memory::{Buffer, Lease};
use bytes::Bytes;
use http::StatusCode;
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// What Pingora's retry buffer holds.
const TAIL: u64 = 64 << 10;

/// The body of a request while it is held.
pub enum Held {
    /// All of it has come and has passed. Each attempt gets it.
    Whole {
        /// The body.
        body: Bytes,
        /// Its part of the budget.
        lease: Lease,
    },
    /// It is coming, and the upstream waits for it.
    Coming {
        /// What has come.
        buffer: Buffer,
        /// The attempt that it came in: the next one begins anew.
        attempt: u8,
        /// When it has to be whole.
        deadline: Instant,
        /// The part of the budget of a body that went on.
        gone: Option<Lease>,
    },
}

/// The budget for held bodies is used up.
const BODY_MEMORY_FULL: &str = "body_memory_full";
/// The body has to say how long it is.
const LENGTH_REQUIRED: &str = "length_required";

/// Reads the body, if a policy needs it, and shows it to the policies.
///
/// # Errors
/// The client is gone, or sends what is no body.
pub async fn run(session: &mut Session, cx: &mut RequestContext, declared: Option<u64>) -> Result<Verdict> {
    let Some(need) = cx.policy.body_need else { return Ok(Verdict::Continue) };
    let is_forwarded = cx.route().is_some_and(|route| !matches!(route.target, Target::Local(_)));
    let is_empty = session.as_downstream_mut().is_body_empty();
    if declared.is_none() && !is_empty {
        if need.undeclared == Undeclared::Refuse {
            return Ok(refused(length_required()));
        }
        if is_forwarded {
            let (buffer, deadline) = (cx.snapshot.body_memory.buffer(), Instant::now() + need.time.get());
            cx.held = Some(Box::new(Held::Coming { buffer, attempt: 0, deadline, gone: None }));
            return Ok(Verdict::Continue);
        }
    }
    let (body, lease) = if is_empty {
        cx.snapshot.body_memory.buffer().into_parts()
    } else {
        match read(session, cx, need, Plan { declared, is_forwarded }).await? {
            Ok(buffer) => buffer.into_parts(),
            Err(rejection) => return Ok(refused(rejection)),
        }
    };
    if let Err(rejection) = show(session, &body, cx) {
        return Ok(Verdict::Reject(rejection));
    }
    if is_forwarded && !is_empty {
        cx.held = Some(Box::new(Held::Whole { body, lease }));
    }
    Ok(Verdict::Continue)
}

#[derive(Clone, Copy)]
struct Plan {
    declared: Option<u64>,
    /// Whether Pingora will replay it to an upstream.
    is_forwarded: bool,
}

/// Reads the body to its end.
async fn read(
    session: &mut Session,
    cx: &RequestContext,
    need: WholeBody,
    plan: Plan,
) -> Result<std::result::Result<Buffer, Rejection>> {
    let most = need.max.bytes().min(cx.policy.body_limit);
    if plan.declared.is_some_and(|length| length > most) {
        return Ok(Err(too_long()));
    }
    reply::go_on(session).await?;
    let pause = cx.conn.as_ref().map_or(need.time.get(), |conn| conn.limits().body_time.get());
    let deadline = Instant::now() + need.time.get();
    let room = usize::try_from(plan.declared.unwrap_or(most)).unwrap_or(usize::MAX);
    let mut buffer = cx.snapshot.body_memory.buffer();
    loop {
        let to_come = plan.declared.unwrap_or(0).saturating_sub(buffer.len() as u64);
        if plan.is_forwarded && (1..=TAIL).contains(&to_come) {
            session.as_mut().enable_retry_buffering();
        }
        let Some(read) = next(session, deadline, pause).await else { return Ok(Err(too_slow())) };
        let Some(piece) = read? else { break };
        if (buffer.len() + piece.len()) as u64 > most {
            return Ok(Err(too_long()));
        }
        if buffer.push(&piece, room).is_err() {
            return Ok(Err(full()));
        }
    }
    if plan.is_forwarded && session.as_ref().get_retry_buffer().is_none() {
        return Error::e_explain(
            ErrorType::InternalError,
            "the end of a held body is not in the retry buffer",
        );
    }
    Ok(Ok(buffer))
}

/// The next piece; `Ok(None)` at the end, `None` if it takes too long.
async fn next(session: &mut Session, deadline: Instant, pause: Duration) -> Option<Result<Option<Bytes>>> {
    let left = deadline.saturating_duration_since(Instant::now());
    let read = session.as_downstream_mut().read_request_body();
    let read = pingora_timeout::timeout(left.min(pause), read).await.ok()?;
    Some(read.map_err(Error::into_down))
}

/// A piece of a held body passes on its way to the upstream: nothing of it, until all may.
///
/// # Errors
/// It may not; the refusal waits in the context.
pub fn pass(session: &Session, body: &mut Option<Bytes>, end: bool, cx: &mut RequestContext) -> Result<()> {
    let Some(mut held) = cx.held.take() else { return Ok(()) };
    let passed = match &mut *held {
        Held::Whole { body: whole, .. } => {
            // `None` would end the request.
            *body = Some(if end { whole.clone() } else { Bytes::new() });
            Ok(())
        }
        Held::Coming { buffer, attempt, deadline, gone } => {
            if *attempt != cx.exchange.attempts {
                buffer.clear();
                *attempt = cx.exchange.attempts;
            }
            gather(session, body, end, cx, (buffer, *deadline)).map(|lease| *gone = lease)
        }
    };
    cx.held = Some(held);
    passed.map_err(|rejection| {
        let status = ErrorType::HTTPStatus(rejection.status.as_u16());
        cx.refused = Some(rejection);
        Error::explain(status, "the request's body is refused").into_down()
    })
}

fn gather(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    cx: &mut RequestContext,
    (buffer, deadline): (&mut Buffer, Instant),
) -> std::result::Result<Option<Lease>, Box<Rejection>> {
    let most = cx.policy.body_need.map_or(0, |need| need.max.bytes()).min(cx.policy.body_limit);
    let piece = body.take().unwrap_or_default();
    if (buffer.len() + piece.len()) as u64 > most {
        return Err(Box::new(too_long()));
    }
    if Instant::now() > deadline {
        return Err(Box::new(too_slow()));
    }
    let room = usize::try_from(most).unwrap_or(usize::MAX);
    buffer.push(&piece, room).map_err(|_| Box::new(full()))?;
    if !end {
        *body = Some(Bytes::new());
        return Ok(None);
    }
    let (whole, lease) = std::mem::replace(buffer, cx.snapshot.body_memory.buffer()).into_parts();
    show(session, &whole, cx)?;
    *body = Some(whole);
    Ok(Some(lease))
}

/// The answer has begun, so that no attempt will need the body again.
pub fn release(cx: &mut RequestContext) {
    match cx.held.as_deref_mut() {
        Some(Held::Whole { .. }) => cx.held = None,
        // An early answer: what is still coming is held all the same.
        Some(Held::Coming { gone, .. }) => *gone = None,
        None => {}
    }
}

fn show(session: &Session, body: &Bytes, cx: &mut RequestContext) -> std::result::Result<(), Box<Rejection>> {
    let listener = cx.listener_id();
    let RequestContext { snapshot, route, policy, .. } = cx;
    let Some(route) = route.map(|id| snapshot.route(id)) else { return Ok(()) };
    route.chains.on(listener).on_request_body(session.req_header(), body, policy)
}

fn refused(rejection: Rejection) -> Verdict {
    Verdict::Reject(Box::new(rejection))
}

fn full() -> Rejection {
    let title = "Too many bodies are under way";
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, BODY_MEMORY_FULL, title)
}

fn length_required() -> Rejection {
    Rejection::new(StatusCode::LENGTH_REQUIRED, LENGTH_REQUIRED, "The body has to say how long it is")
}
