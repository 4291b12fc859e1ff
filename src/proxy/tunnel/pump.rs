//! Both directions of a tunnel at once, each with its own back-pressure, within bounds of time.

use super::ends::{Broken, End};
use crate::config::model::listener::Upgraded;
use crate::message::websocket::{self, Frames, GOING_AWAY};
use crate::telemetry::random;
use bytes::Bytes;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long one direction may be silent when the other one has ended.
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// How long the close frames and the answers to them may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides had said all.
    Done,
    /// The client broke off.
    ClientBroke,
    /// The upstream broke off.
    UpstreamBroke,
    /// Nothing moved for too long.
    Idle,
    /// It lasted as long as it may.
    Aged,
    /// The gateway stops.
    GoingAway,
}

/// A tunnel between two ends.
pub(super) struct Pump<C, U> {
    client: C,
    upstream: U,
    up: Direction,
    down: Direction,
    moved: Instant,
}

/// What goes from one end to the other one.
struct Direction {
    state: State,
    /// Where the protocol has frames that we know.
    frames: Option<Frames>,
    /// A close frame of our own, for the next place between two frames.
    farewell: Option<Bytes>,
    /// A close frame went out, and nothing may follow it.
    silenced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its source has ended; its sink is to be told.
    Ended,
    Closed,
}

enum Event {
    /// The first of the two directions has ended.
    HalfClosed,
    Over(Outcome),
}

impl<C: End, U: End> Pump<C, U> {
    /// Between these two. `frames`: they speak WebSocket, so that a close frame means something.
    pub(super) fn new(client: C, upstream: U, frames: bool) -> Self {
        let direction = || Direction {
            state: State::Open,
            frames: frames.then(Frames::default),
            farewell: None,
            silenced: false,
        };
        Self { client, upstream, up: direction(), down: direction(), moved: Instant::now() }
    }

    /// Moves bytes until it is over: for one of the ends, for time, or because the gateway stops.
    pub(super) async fn run(mut self, bounds: &Upgraded, stopping: &mut watch::Receiver<bool>) -> Outcome {
        let born = Instant::now();
        let outcome = loop {
            let quiet =
                if self.is_half_closed() { HALF_CLOSED.min(bounds.idle.get()) } else { bounds.idle.get() };
            let quiet_left = quiet.saturating_sub(self.moved.elapsed());
            let age_left = bounds.age.get().saturating_sub(born.elapsed());
            if age_left.is_zero() {
                break Outcome::Aged;
            }
            if quiet_left.is_zero() {
                break Outcome::Idle;
            }
            tokio::select! {
                biased;
                event = poll_fn(|cx| self.poll(cx)) => match event {
                    Event::HalfClosed => {}
                    Event::Over(outcome) => return outcome,
                },
                _ = stopping.wait_for(|stopping| *stopping) => break Outcome::GoingAway,
                () = pingora_timeout::sleep(quiet_left.min(age_left)) => {}
            }
        };
        self.say_goodbye().await;
        outcome
    }

    /// Tells both ends to go away, where their protocol has a word for it and nobody said it yet.
    async fn say_goodbye(&mut self) {
        let mask = (random::next_u64() as u32).to_ne_bytes();
        for (direction, mask) in [(&mut self.up, Some(mask)), (&mut self.down, None)] {
            if direction.frames.as_ref().is_some_and(|frames| !frames.is_closed()) {
                direction.farewell = Some(websocket::close_frame(GOING_AWAY, mask));
            }
        }
        if self.up.farewell.is_none() && self.down.farewell.is_none() {
            return;
        }
        let over = async { while let Event::HalfClosed = poll_fn(|cx| self.poll(cx)).await {} };
        let _ = pingora_timeout::timeout(FAREWELL, over).await;
    }

    fn is_half_closed(&self) -> bool {
        self.up.state != State::Open || self.down.state != State::Open
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let was_half_closed = self.is_half_closed();
        let up = self.up.poll(&mut self.client, &mut self.upstream, &mut self.moved, cx);
        let down = self.down.poll(&mut self.upstream, &mut self.client, &mut self.moved, cx);
        let broke = |side| match side {
            Side::Source => (Outcome::ClientBroke, Outcome::UpstreamBroke),
            Side::Sink => (Outcome::UpstreamBroke, Outcome::ClientBroke),
        };
        match (up, down) {
            (Poll::Ready(Err(side)), _) => Poll::Ready(Event::Over(broke(side).0)),
            (_, Poll::Ready(Err(side))) => Poll::Ready(Event::Over(broke(side).1)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Event::Over(Outcome::Done)),
            _ if !was_half_closed && self.is_half_closed() => Poll::Ready(Event::HalfClosed),
            _ => Poll::Pending,
        }
    }
}

/// Which end of a direction broke off.
#[derive(Debug)]
enum Side {
    Source,
    Sink,
}

impl Direction {
    fn poll(
        &mut self,
        source: &mut impl End,
        sink: &mut impl End,
        moved: &mut Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Side>> {
        loop {
            if self.state == State::Closed {
                return Poll::Ready(Ok(()));
            }
            // Nothing is read that the other end would not take: this is the back-pressure.
            ready!(sink.poll_sent(cx)).map_err(|Broken| Side::Sink)?;
            if self.state == State::Ended {
                ready!(sink.poll_close(cx));
                self.state = State::Closed;
                continue;
            }
            if let Some(farewell) =
                self.farewell.take_if(|_| self.frames.as_ref().is_none_or(Frames::is_between))
            {
                self.silenced = true;
                sink.send(farewell);
                continue;
            }
            match ready!(source.poll_read(cx)).map_err(|Broken| Side::Source)? {
                None => self.state = State::Ended,
                Some(_) if self.silenced => {}
                Some(bytes) => {
                    *moved = Instant::now();
                    if let Some(frames) = &mut self.frames {
                        frames.follow(&bytes);
                    }
                    sink.send(bytes);
                }
            }
        }
    }
}
