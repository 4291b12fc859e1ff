//! A client for load tests that judges as the standards do: what the other side owed and did not give is
//! a failure, and nothing else is.
//!
//! ```text
//! load http1 ADDRESS [options]        a connection sends one request after the other
//! load http2 ADDRESS [options]        several streams on each connection
//! load websocket ADDRESS [options]    messages whose echo is waited for
//! load echo LISTEN                    the WebSocket server for it
//! ```
//!
//! It runs for `--seconds`, or until SIGTERM, then writes one line of `name=value`:
//!
//! | name | counts |
//! | --- | --- |
//! | `answered` | requests with a whole answer of status 200 |
//! | `failed` | the next five together |
//! | `refused` | connections that could not be opened |
//! | `lost` | requests that were owed an answer and got no byte of it |
//! | `cut` | answers that ended before they were whole |
//! | `late` | requests without an answer after 30 s |
//! | `wrong` | other answers |
//! | `silent` | connections that ended without a word (`connection: close`, GOAWAY, a close frame) between requests |
//! | `repeated` | requests that were sent again, as RFC 9112 section 9.3.1 and RFC 9113 section 6.8 allow: on a silent connection, or above the last stream that GOAWAY named |
//! | `told` | connections that ended with such a word |
//! | `opened` | connections |
//! | `p50_us`, `p99_us`, `p999_us`, `max_us` | time from when a request was due to the end of its answer |

mod dial;
mod goaway;
mod http1;
mod http2;
mod pace;
mod tally;
mod websocket;

use clap::{Args, Parser, Subcommand};
use dial::Dialer;
use pace::Pace;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::signal::unix::{SignalKind, signal};

type Failed = Box<dyn Error + Send + Sync>;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Requests over HTTP/1.1.
    Http1(Options),
    /// Requests over HTTP/2.
    Http2(Options),
    /// Messages over WebSocket.
    Websocket(Options),
    /// Gives every WebSocket message back.
    Echo { listen: String },
}

#[derive(Args)]
struct Options {
    address: String,
    /// Speak TLS, and trust this authority.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The host that is asked for.
    #[arg(long, default_value = "localhost")]
    name: String,
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Streams at a time on each connection of HTTP/2.
    #[arg(long, default_value_t = 4)]
    streams: usize,
    /// Requests a second, all connections together; 0: as many as can be.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// How long; 0: until SIGTERM.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests after which a connection is closed and another one opened; 0: none.
    #[arg(long, default_value_t = 0)]
    requests: u64,
}

/// What all clients of a run share.
struct Load {
    dialer: Dialer,
    tally: Tally,
    name: String,
    path: String,
    /// The most requests on one connection.
    requests: u64,
    over: AtomicBool,
}

impl Load {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits until a request is due, and answers when it was; `None` once the run is over.
    async fn turn(&self, pace: &mut Pace) -> Option<Instant> {
        let due = pace.turn().await;
        (!self.is_over()).then_some(due)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    match Arguments::parse().command {
        Command::Echo { listen } => websocket::serve(&listen).await,
        Command::Http1(options) => {
            run(options, (b"http/1.1", 1), |load, pace, _| Box::pin(http1::run(load, pace))).await
        }
        Command::Websocket(options) => {
            run(options, (b"http/1.1", 1), |load, pace, _| Box::pin(websocket::run(load, pace))).await
        }
        Command::Http2(options) => {
            let streams = options.streams.max(1);
            run(options, (b"h2", streams), |load, pace, shared| Box::pin(http2::run(load, pace, shared)))
                .await
        }
    }
}

type Client = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs `each` for every stream of every connection; streams of one connection get the same `Shared`.
async fn run(
    options: Options,
    (protocol, streams): (&[u8], usize),
    each: impl Fn(Arc<Load>, Pace, Arc<http2::Shared>) -> Client,
) -> Result<(), Failed> {
    let load = Arc::new(Load {
        dialer: Dialer::new(options.address, &options.name, options.ca.as_deref(), protocol)?,
        tally: Tally::default(),
        name: options.name,
        path: options.path,
        requests: if options.requests == 0 { u64::MAX } else { options.requests },
        over: AtomicBool::new(false),
    });
    let clients = options.connections.max(1) * streams;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..options.connections.max(1) {
        let shared = Arc::<http2::Shared>::default();
        for stream in 0..streams {
            let pace = Pace::new(began, options.rate, (connection * streams + stream, clients));
            tasks.spawn(each(Arc::clone(&load), pace, Arc::clone(&shared)));
        }
    }
    end_of_run(options.seconds).await?;
    load.over.store(true, Ordering::Relaxed);
    let took = began.elapsed();
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", load.tally.line(took))?;
    for example in load.tally.examples() {
        writeln!(std::io::stderr(), "load: {example}")?;
    }
    Ok(())
}

async fn end_of_run(seconds: f64) -> Result<(), Failed> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let time = async {
        if seconds > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = time => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
