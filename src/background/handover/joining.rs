//! The side of the new process: it takes the sockets, stands ready behind shut gates, and opens them
//! when the serving process has shut its own.

use super::GAP;
use super::control::connect;
use super::wire::{self, Handed, Message};
use crate::listen::Listeners;
use crate::retained::Kept;
use crate::values::Problem;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The most sockets that are taken over.
const MOST: usize = 4096;
/// The end of a process is noticed a little after its last word is.
const LAST_BREATH: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A hand-over that has begun, with the sockets of the process that serves.
#[derive(Debug)]
pub struct Joining {
    stream: UnixStream,
    /// By which the end of the serving process is seen; none where the kernel has no such thing.
    process: Option<OwnedFd>,
    sockets: Vec<(Handed, TcpListener)>,
}

/// Says hello to the process that serves at `path`, and takes its sockets. Nothing has changed there
/// yet.
///
/// # Errors
/// Nobody serves there, or it refuses.
pub fn join(path: &Path) -> Result<Joining, Problem> {
    let failed = |error: io::Error| {
        Problem::new(format!("no hand-over at the control socket `{}`: {error}", path.display())).remedy(
            "is a gateway running with this `process.control`, and as this user? Without one, start with \
             `tollgate run`",
        )
    };
    let stream = connect(path).map_err(failed)?;
    let pid = rustix::net::sockopt::socket_peercred(&stream).map_err(|error| failed(error.into()))?.pid;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok();
    let hello = Message::Hello {
        protocols: wire::PROTOCOLS.to_vec(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        ahead: true,
    };
    wire::send(&stream, &hello, &[]).map_err(failed)?;
    let sockets = take_sockets(&stream).map_err(failed)?;
    Ok(Joining { stream, process, sockets })
}

fn take_sockets(stream: &UnixStream) -> io::Result<Vec<(Handed, TcpListener)>> {
    let count = match wire::receive(stream)?.0 {
        Message::Sockets { count, .. } if count <= MOST => count,
        other => return Err(unexpected(other)),
    };
    let mut taken = Vec::new();
    while taken.len() < count {
        let (message, fds) = wire::receive(stream)?;
        let Message::Batch { sockets } = message else { return Err(unexpected(message)) };
        if sockets.is_empty() || sockets.len() != fds.len() {
            return Err(io::Error::other("sockets went missing: are there descriptors left?"));
        }
        taken.extend(sockets.into_iter().zip(fds.into_iter().map(TcpListener::from)));
    }
    Ok(taken)
}

impl Joining {
    /// The socket that was bound to this address; for the port 0, which is whichever was free, the one
    /// of the same name.
    pub fn take(&mut self, name: &str, address: SocketAddr, admin: bool) -> Option<TcpListener> {
        let fits = |(handed, _): &(Handed, TcpListener)| {
            let same = handed.address == address
                || (address.port() == 0 && handed.name == name && handed.address.ip() == address.ip());
            same && handed.admin == admin
        };
        let at = self.sockets.iter().position(fits)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Says that this process could serve, has `keep` take what outlives the process that serves, and has
    /// `accept` begin when that one has stopped.
    ///
    /// # Errors
    /// Why it came to nothing: the serving process goes on, and this one must not.
    pub fn take_over(
        self,
        keep: impl Fn(Vec<Kept>),
        accept: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut heard =
            wire::send(&self.stream, &Message::Ready, &[]).and_then(|()| wire::receive(&self.stream));
        loop {
            match heard {
                Ok((Message::State { state }, _)) => keep(state),
                Ok((Message::Go { state }, _)) => break keep(state),
                Ok((other, _)) => return Err(unexpected(other)),
                Err(_) if self.is_alone() => break,
                Err(error) => return Err(error),
            }
            heard = wire::receive(&self.stream);
        }
        accept()?;
        let done =
            wire::send(&self.stream, &Message::Accepting, &[]).and_then(|()| wire::receive(&self.stream));
        match done {
            Ok((Message::Done, _)) => {
                // Whether it is heard makes no difference here.
                let _ = wire::send(&self.stream, &Message::Serving, &[]);
                Ok(())
            }
            Ok((other, _)) => Err(unexpected(other)),
            Err(_) if self.is_alone() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// True if the process that served has died: somebody has to go on, and the sockets are here.
    fn is_alone(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let dead = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&LAST_BREATH)).is_ok_and(|n| n > 0);
        if dead {
            log::warn!("the process that served died during the hand-over; this one goes on alone");
        }
        dead
    }
}

fn unexpected(message: Message) -> io::Error {
    match message {
        Message::Refused { why } => io::Error::other(why),
        other => io::Error::other(format!("an answer that is none: {other:?}")),
    }
}

/// Takes over once this process's services stand ready.
pub struct TakeOver {
    /// The hand-over that has begun.
    pub joining: Mutex<Option<Joining>>,
    /// Where clients will connect; the gate is shut.
    pub listeners: Listeners,
    /// The admin listener's own handle; the gate is shut.
    pub admin: Listeners,
    /// Waits for what requests will need, such as endpoints and keys. It may take half of the patience.
    pub warm: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// Gets what outlived the process before, before the first connection is accepted.
    pub state: Arc<dyn Fn(Vec<Kept>) + Send + Sync>,
    /// Puts this process's own control socket in its place.
    pub publish: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// Told if it came to nothing: this process has to end.
    pub failed: Box<dyn Fn(&io::Error) + Send + Sync>,
    /// What this process may wait for before it says that it is ready.
    pub patience: Duration,
}

#[async_trait]
impl BackgroundService for TakeOver {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(joining) = self.joining.lock().take() else { return };
        let started = async { tokio::join!(self.listeners.started(), self.admin.started()) };
        if tokio::time::timeout(self.patience, started).await.is_err() {
            return (self.failed)(&io::Error::other("the listeners did not start in time"));
        }
        // What does not come in time comes later: there is a process that serves, but not for ever.
        let _ = tokio::time::timeout(self.patience / 2, (self.warm)()).await;
        let (listeners, admin) = (self.listeners.clone(), self.admin.clone());
        let runtime = tokio::runtime::Handle::current();
        let keep = Arc::clone(&self.state);
        let taken = tokio::task::spawn_blocking(move || {
            let accept = || {
                listeners.open();
                admin.open();
                let both = async { tokio::join!(listeners.ready(), admin.ready()) };
                let ready = runtime.block_on(async { tokio::time::timeout(GAP / 2, both).await });
                ready.map(drop).map_err(|_| io::Error::other("the listeners did not accept in time"))
            };
            joining.take_over(|state| keep(state), accept)
        });
        let taken = tokio::select! {
            taken = taken => taken.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            _ = shutdown.changed() => return,
        };
        match taken {
            Ok(()) => {
                if let Err(error) = (self.publish)() {
                    log::error!("the control socket is not in its place, no upgrade is possible: {error}");
                }
                log::info!("took over pid={}", std::process::id());
            }
            Err(error) => (self.failed)(&error),
        }
    }
}
