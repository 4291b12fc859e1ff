//! Watches over an HTTP/2 stream whose request has a body, since Pingora has no deadline for what it reads
//! from one: it would wait for ever for a client that says nothing, and after a whole answer too.
//!
//! Pingora's work for a stream cannot be broken off from inside. It is dropped from outside ([`App`](super::app::App)),
//! which resets the stream and lets the connection go on: CANCEL where no answer is whole, NO_ERROR where
//! one is (RFC 9113 section 8.1). The request's line in the log is then written as its context is dropped.

use super::RequestContext;
use super::phases::finish::{self, Exchanged};
use crate::message::grpc;
use crate::telemetry::access_log::AccessLog;
use crate::upstream::peer;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The status in the log where the client was too slow (RFC 9110 section 15.5.9).
const TOO_SLOW: u16 = 408;

/// The body went on after its whole answer; for the log.
const BODY_UNFINISHED: &str = "body_unfinished";

/// The watch over one stream. It goes with the request, from [`App`](super::app::App) to the hooks.
#[derive(Debug, Default)]
pub struct Watch {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    until: Until,
    limits: Limits,
    received: u64,
    sent: u64,
    status: Option<u16>,
    /// The body has.
    ended: bool,
}

/// What the stream may wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Until {
    /// What others bound.
    #[default]
    Forever,
    /// The next piece of the body.
    Piece(Instant),
    /// The end of the body, after the whole answer.
    End(Instant),
    /// Nothing more: it was cut.
    Cut,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    /// Between two pieces.
    pause: Duration,
    /// The least rate, in bytes a second; what came earlier than that is to the client's credit.
    rate: u64,
    /// The most credit: an upstream that takes nothing for so long is at fault itself.
    credit: Duration,
    /// From the end of the answer to that of the body.
    linger: Duration,
}

impl Limits {
    fn next_piece(&self, now: Instant, received: u64) -> Instant {
        let ahead = received.checked_div(self.rate).map_or(self.credit, Duration::from_secs);
        now + self.pause + ahead.min(self.credit)
    }
}

impl Watch {
    /// A piece of the body, `received` bytes up to now; `end` if it is the last.
    pub fn piece(&self, now: Instant, received: u64, end: bool) {
        let mut state = self.state.lock();
        state.received = received;
        state.ended |= end;
        // Moving a deadline away wakes nobody: whoever waits looks again when it was.
        state.until = match state.until {
            Until::Piece(_) if !end => Until::Piece(state.limits.next_piece(now, received)),
            Until::Piece(_) | Until::End(_) if end => Until::Forever,
            other => other,
        };
    }

    /// The answer begins: from here on the client may be silent, as in a call that is a conversation.
    pub fn answering(&self, status: u16) {
        let mut state = self.state.lock();
        state.status = Some(status);
        if matches!(state.until, Until::Piece(_)) {
            state.until = Until::Forever;
        }
    }

    /// A piece of the answer; `end` if it is the last.
    pub fn answered(&self, now: Instant, bytes: usize, end: bool) {
        let mut state = self.state.lock();
        state.sent += bytes as u64;
        if end && !state.ended && state.until == Until::Forever {
            state.until = Until::End(now + state.limits.linger);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Ends when the stream has to be cut.
    pub async fn over(&self) {
        loop {
            let changed = self.changed.notified();
            match self.due(Instant::now()) {
                Until::Forever => changed.await,
                Until::Piece(at) | Until::End(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = changed => {}
                    }
                }
                Until::Cut => return,
            }
        }
    }

    /// What it waits for; cut if the time has come.
    fn due(&self, now: Instant) -> Until {
        let mut state = self.state.lock();
        if let Until::Piece(at) | Until::End(at) = state.until
            && at <= now
        {
            state.until = Until::Cut;
        }
        state.until
    }
}

/// What is watched, for as long as the request is on its way; dropped with its context.
pub struct Watched {
    watch: Arc<Watch>,
    head: RequestHeader,
    access_log: Arc<ArcSwapOption<AccessLog>>,
}

/// Begins to watch over a request that goes to an upstream, if there is a stream to watch over.
pub fn begin(session: &Session, cx: &mut RequestContext, access_log: &Arc<ArcSwapOption<AccessLog>>) {
    let head = session.req_header();
    let Some(watch) = head.extensions.get::<Arc<Watch>>().map(Arc::clone) else { return };
    let (Some(conn), Some(upstream), Some(route)) = (cx.conn.as_deref(), cx.exchange.upstream, cx.route())
    else {
        return;
    };
    let limits = conn.limits();
    let limits = Limits {
        pause: limits.body_time.get(),
        rate: limits.body_rate.bytes(),
        credit: peer::write(&cx.snapshot.upstreams[upstream].0, &route.timeouts),
        linger: limits.write_time.get().max(limits.body_time.get()),
    };
    let received = session.body_bytes_read() as u64;
    {
        let mut state = watch.state.lock();
        state.limits = limits;
        state.received = received;
        // A body that was held is there; a call's client may be silent as long as its upstream is.
        let is_call = grpc::dialect(&head.headers).is_some();
        if cx.held.is_none() && !is_call {
            state.until = Until::Piece(limits.next_piece(Instant::now(), received));
        }
    }
    watch.changed.notify_one();
    let watched = Watched { watch, head: head.clone(), access_log: Arc::clone(access_log) };
    cx.watched = Some(Box::new(watched));
}

impl Watched {
    /// The watch itself.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

/// Counts and logs a request that was cut, whose hook for that never comes.
pub fn conclude(cx: &RequestContext) {
    let Some(watched) = cx.watched.as_deref() else { return };
    let state = watched.watch.state.lock();
    if state.until != Until::Cut {
        return;
    }
    let exchanged = Exchanged {
        request: &watched.head,
        received: state.received,
        response: None,
        status: state.status.or(Some(TOO_SLOW)),
        sent: state.sent,
        cause: Some(if state.status.is_some() { BODY_UNFINISHED } else { "request_timeout" }),
    };
    finish::conclude(cx, &watched.access_log, &exchanged);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits { pause: 30 * SECOND, rate: 256, credit: 60 * SECOND, linger: 60 * SECOND }
    }

    #[test]
    fn what_came_early_is_to_the_clients_credit() {
        let (limits, now) = (limits(), Instant::now());
        for (received, wait) in [(0, 30), (255, 30), (2560, 40), (1 << 30, 90)] {
            assert_eq!(limits.next_piece(now, received) - now, wait * SECOND, "{received}");
        }
        let unbounded = Limits { rate: 0, ..limits };
        assert_eq!(unbounded.next_piece(now, 5) - now, 90 * SECOND);
    }

    #[test]
    fn what_a_stream_waits_for() {
        let now = Instant::now();
        let watch = Watch::default();
        let until = |watch: &Watch| watch.state.lock().until;
        watch.piece(now, 1, false);
        assert_eq!(until(&watch), Until::Forever, "it is not watched");
        *watch.state.lock() = State { until: Until::Piece(now), limits: limits(), ..State::default() };
        watch.piece(now + SECOND, 10, false);
        assert_eq!(until(&watch), Until::Piece(now + 31 * SECOND));
        watch.answering(200);
        assert_eq!(until(&watch), Until::Forever, "a conversation");
        watch.piece(now, 11, false);
        watch.answered(now, 5, false);
        assert_eq!(until(&watch), Until::Forever);
        watch.answered(now, 5, true);
        assert_eq!(until(&watch), Until::End(now + 60 * SECOND));
        watch.piece(now, 12, false);
        assert_eq!(until(&watch), Until::End(now + 60 * SECOND), "more of it is not its end");
        watch.piece(now, 12, true);
        assert_eq!(until(&watch), Until::Forever);
        let state = watch.state.lock();
        assert_eq!((state.received, state.sent, state.status), (12, 10, Some(200)));
    }

    #[tokio::test]
    async fn it_is_over_when_the_time_has_come() {
        let watch = Arc::new(Watch::default());
        let waiting = tokio::spawn({
            let watch = Arc::clone(&watch);
            async move { watch.over().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        watch.answered(Instant::now(), 0, true);
        waiting.await.unwrap();
        assert_eq!(watch.state.lock().until, Until::Cut);
    }

    #[test]
    fn an_answer_after_the_whole_body_is_not_hurried() {
        let (watch, now) = (Watch::default(), Instant::now());
        watch.piece(now, 1, true);
        watch.answered(now, 1, true);
        assert_eq!(watch.due(now), Until::Forever);
    }
}
