//! HTTP/2, several streams on each connection.

use crate::goaway::{LastWord, Watched};
use crate::pace::Pace;
use crate::tally::{Event, Failure};
use crate::{Load, PATIENCE};
use bytes::Bytes;
use h2::client::SendRequest;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The connection that new streams of some clients go to.
#[derive(Default)]
pub struct Shared(Mutex<Option<Live>>);

#[derive(Clone)]
struct Live {
    sender: SendRequest<Bytes>,
    last_word: LastWord,
    /// Set by whoever found out that nothing more can be sent on it.
    spent: Arc<AtomicBool>,
    sent: u64,
}

pub async fn run(load: Arc<Load>, mut pace: Pace, shared: Arc<Shared>) {
    while let Some(due) = load.turn(&mut pace).await {
        while !ask(&load, &shared, due).await && !load.is_over() {}
    }
    shared.0.lock().await.take();
}

/// Sends a request and judges what comes; false if it is to be sent, or to be sent again.
async fn ask(load: &Arc<Load>, shared: &Shared, due: Instant) -> bool {
    let live = match live(load, shared).await {
        Ok(live) => live,
        Err(error) => {
            load.tally.failed(Failure::Refused, error);
            tokio::time::sleep(Duration::from_millis(10)).await;
            return true;
        }
    };
    let asked = async {
        // Waits for its turn where the server allows fewer streams.
        let mut sender = live.sender.clone().ready().await?;
        let uri = format!("http://{}{}", load.name, load.path);
        let request = http::Request::get(uri).body(()).map_err(|_| h2::Reason::INTERNAL_ERROR)?;
        Ok::<_, h2::Error>(sender.send_request(request, true)?.0)
    };
    let Ok(asked) = tokio::time::timeout(PATIENCE, asked).await else {
        load.tally.failed(Failure::Late, "no turn");
        live.spent.store(true, Ordering::Relaxed);
        return true;
    };
    // Nothing was sent: the next connection will do, and why this one ended is told where it ends.
    let Ok(answer) = asked else {
        live.spent.store(true, Ordering::Relaxed);
        return false;
    };
    let stream = answer.stream_id().as_u32();
    let Ok(came) = tokio::time::timeout(PATIENCE, whole(answer)).await else {
        load.tally.failed(Failure::Late, format_args!("stream {stream}"));
        return true;
    };
    match came {
        Ok(200) => load.tally.answered(due),
        Ok(status) => load.tally.failed(Failure::Wrong, format_args!("status {status}")),
        Err((_, error)) if error.is_go_away() && error.is_remote() && live.last_word.is_beyond(stream) => {
            live.spent.store(true, Ordering::Relaxed);
            load.tally.count(Event::Repeated);
            return false;
        }
        Err((begun, error)) => {
            live.spent.store(true, Ordering::Relaxed);
            let failure = if begun { Failure::Cut } else { Failure::Lost };
            load.tally.failed(failure, format_args!("stream {stream}: {error}"));
        }
    }
    true
}

/// The connection in use, or a new one if it is none any more.
async fn live(load: &Arc<Load>, shared: &Shared) -> Result<Live, crate::Failed> {
    let mut slot = shared.0.lock().await;
    let usable = |live: &&mut Live| {
        !live.spent.load(Ordering::Relaxed) && !live.last_word.was_said() && live.sent < load.requests
    };
    if let Some(live) = slot.as_mut().filter(usable) {
        live.sent += 1;
        return Ok(live.clone());
    }
    // Dropped before the next one is there: streams under way have clones of their own.
    slot.take();
    let (stream, last_word) = Watched::new(load.dialer.connect().await?);
    let (sender, connection) = h2::client::handshake(stream).await?;
    load.tally.count(Event::Opened);
    let spent = Arc::<AtomicBool>::default();
    let live = Live { sender, last_word: last_word.clone(), spent: spent.clone(), sent: 1 };
    let load = load.clone();
    tokio::spawn(async move {
        // Its errors are those of its streams.
        let _ = connection.await;
        spent.store(true, Ordering::Relaxed);
        if last_word.was_said() {
            load.tally.count(Event::Told);
        } else if last_word.is_closed() {
            load.tally.count(Event::Silent);
        }
    });
    *slot = Some(live.clone());
    Ok(live)
}

/// The status of a whole answer; or whether its head had come when it broke off.
async fn whole(answer: h2::client::ResponseFuture) -> Result<u16, (bool, h2::Error)> {
    let answer = answer.await.map_err(|error| (false, error))?;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| (true, error))?;
        let _ = body.flow_control().release_capacity(piece.len());
    }
    body.trailers().await.map_err(|error| (true, error))?;
    Ok(status)
}
