//! HTTP/1.1 on kept connections, one request at a time.

use crate::dial::Stream;
use crate::pace::Pace;
use crate::tally::{Event, Failure};
use crate::{Load, PATIENCE};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LARGEST_HEAD: usize = 64 << 10;

pub async fn run(load: Arc<Load>, mut pace: Pace) {
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", load.path, load.name);
    let mut kept = None;
    while let Some(due) = load.turn(&mut pace).await {
        // Again where the connection was closed before the answer began (RFC 9112 section 9.3.1).
        while !ask(&load, &mut kept, request.as_bytes(), due).await && !load.is_over() {
            load.tally.count(Event::Repeated);
        }
    }
}

/// Sends a request and judges what comes; false if it is to be sent again.
async fn ask(load: &Load, kept: &mut Option<Connection>, request: &[u8], due: Instant) -> bool {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => match load.dialer.connect().await {
            Ok(stream) => {
                load.tally.count(Event::Opened);
                Connection { stream, input: Vec::with_capacity(4096), answered: 0 }
            }
            Err(error) => {
                load.tally.failed(Failure::Refused, error);
                tokio::time::sleep(Duration::from_millis(10)).await;
                return true;
            }
        },
    };
    let Ok(came) = tokio::time::timeout(PATIENCE, connection.exchange(request)).await else {
        load.tally.failed(Failure::Late, "no answer");
        return true;
    };
    match came {
        Ok(answer) => {
            connection.answered += 1;
            match answer.status {
                200 => load.tally.answered(due),
                status => load.tally.failed(Failure::Wrong, format_args!("status {status}")),
            }
            if answer.closes {
                load.tally.count(Event::Told);
            } else if connection.answered < load.requests {
                *kept = Some(connection);
            }
        }
        Err(Broken { begun: false, .. }) if connection.answered > 0 => {
            load.tally.count(Event::Silent);
            return false;
        }
        Err(Broken { begun, error }) => {
            let failure = if begun { Failure::Cut } else { Failure::Lost };
            load.tally.failed(failure, format_args!("after {} answers: {error}", connection.answered));
        }
    }
    true
}

struct Connection {
    stream: Box<dyn Stream>,
    /// What has come and is not used up.
    input: Vec<u8>,
    answered: u64,
}

struct Answer {
    status: u16,
    closes: bool,
}

struct Broken {
    /// Whether any byte of the answer came.
    begun: bool,
    error: io::Error,
}

impl Connection {
    async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Broken> {
        let before = self.input.len();
        let answer = match self.stream.write_all(request).await {
            // What came before the connection broke may say why.
            Ok(()) | Err(_) => self.answer().await,
        };
        answer.map_err(|error| Broken { begun: self.input.len() > before, error })
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.input.len() > LARGEST_HEAD {
                return Err(io::Error::other("the head does not end"));
            }
            self.more().await?;
        };
        let (answer, length) = parse(&String::from_utf8_lossy(&self.input[..end]))
            .ok_or_else(|| io::Error::other("no answer with a length"))?;
        while self.input.len() < end + length {
            self.more().await?;
        }
        self.input.drain(..end + length);
        Ok(answer)
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A head as origins of load tests write it: with a length.
fn parse(head: &str) -> Option<(Answer, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let (mut closes, mut length) = (false, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    Some((Answer { status, closes }, length?))
}
