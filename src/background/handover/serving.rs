//! The side of the process that serves: it gives its sockets away, and goes only when it has been told
//! that somebody accepts on them.

use super::control::{Control, check_peer};
use super::wire::{self, Handed, Message};
use super::{GAP, WORD};
use crate::background::supervisor::OF_THIS_PROCESS;
use crate::listen::Listeners;
use crate::retained::{Ahead, Retained};
use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Conversations at a time; more wait.
const CONVERSATIONS: usize = 4;
/// How often a started process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The end of a process is noticed a little after its last word is.
const LAST_BREATH: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// How long the drain waits for the command to hear that it begins.
const ANSWER: Duration = Duration::from_secs(2);

/// What the serving process gives away, and what it does then.
pub struct Serving {
    /// Where clients connect.
    pub listeners: Listeners,
    /// The admin listener's own handle.
    pub admin: Listeners,
    /// Held while a configuration is read, and while a hand-over is under way.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// How long a new process may take until it is ready.
    pub patience: Duration,
    /// What a new process is started from.
    pub binary: PathBuf,
    /// What it is to serve.
    pub config: PathBuf,
    /// What outlives this process.
    pub state: Arc<Retained>,
    /// Told the number of the process that serves from now on: the time to drain.
    pub handed_over: Box<dyn Fn(u32) + Send + Sync>,
}

/// Serves the control socket.
pub struct ControlService {
    shared: Arc<Shared>,
}

struct Shared {
    serving: Serving,
    control: Arc<Control>,
    /// One hand-over at a time.
    under_way: AtomicBool,
    outcome: Mutex<Outcome>,
    /// The outcome is another one.
    changed: Condvar,
}

/// What came of it, and who still has to hear that.
#[derive(Default)]
struct Outcome {
    successor: Option<u32>,
    /// Commands that wait for an answer.
    asking: usize,
}

/// A command that waits for an answer.
struct Asking<'a>(&'a Shared);

impl<'a> Asking<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.outcome.lock().asking += 1;
        Self(shared)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.outcome.lock().asking -= 1;
        self.0.changed.notify_all();
    }
}

impl ControlService {
    /// A service on `control`.
    pub fn new(control: Arc<Control>, serving: Serving) -> Self {
        let under_way = AtomicBool::new(false);
        let (outcome, changed) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { serving, control, under_way, outcome, changed }) }
    }
}

#[async_trait]
impl BackgroundService for ControlService {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let socket = self.shared.control.socket.try_clone().and_then(tokio::net::UnixListener::from_std);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return log::error!("the control socket cannot be served: {error}"),
        };
        let places = Arc::new(Semaphore::new(CONVERSATIONS));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accepted => accepted,
                _ = shutdown.changed() => return,
            };
            let Ok((stream, _)) = accepted else {
                // No descriptors, most likely; whoever asks will ask again.
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let shared = Arc::clone(&self.shared);
            tokio::task::spawn_blocking(move || {
                let _place = place;
                let talked = stream.into_std().and_then(|stream| shared.converse(&stream));
                if let Err(error) = talked {
                    log::warn!("the control socket was used in vain: {error}");
                }
            });
        }
    }
}

impl Shared {
    fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(WORD))?;
        stream.set_write_timeout(Some(WORD))?;
        check_peer(stream)?;
        match wire::receive(stream)?.0 {
            Message::Status => {
                let build = env!("CARGO_PKG_VERSION").to_owned();
                wire::send(stream, &Message::Running { pid: std::process::id(), build }, &[])
            }
            Message::Start { binary, config } => self.start(stream, binary, config),
            Message::Hello { protocols, build, ahead, .. } => self.hello(stream, &protocols, (&build, ahead)),
            _ => refuse(stream, "this is not the time for that"),
        }
    }

    /// Starts a process that will say hello by itself, and tells what came of it.
    fn start(&self, stream: &UnixStream, binary: Option<PathBuf>, config: Option<PathBuf>) -> io::Result<()> {
        let _asking = Asking::new(self);
        let binary = binary.unwrap_or_else(|| self.serving.binary.clone());
        let mut command = Command::new(&binary);
        let mut upgrade = OsString::from("--upgrade=");
        upgrade.push(self.control.path());
        command.arg("run").arg(upgrade);
        command.arg("-c").arg(config.unwrap_or_else(|| self.serving.config.clone()));
        // What it logs goes where ours goes; sockets come by the control socket, not by the environment.
        command.stdin(Stdio::null());
        for name in OF_THIS_PROCESS {
            command.env_remove(name);
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                return refuse(stream, &format!("`{}` cannot be started: {error}", binary.display()));
            }
        };
        log::info!("upgrade: started pid={} binary={}", child.id(), binary.display());
        wire::send(stream, &Message::Started { pid: child.id() }, &[])?;
        match self.outcome(&mut child) {
            Ok(()) => wire::send(stream, &Message::Upgraded { pid: child.id() }, &[]),
            Err(why) => refuse(stream, &why),
        }
    }

    fn outcome(&self, child: &mut Child) -> Result<(), String> {
        // As long again for the process to begin.
        let until = Instant::now() + 2 * self.serving.patience;
        loop {
            let mut outcome = self.outcome.lock();
            if outcome.successor != Some(child.id()) {
                self.changed.wait_for(&mut outcome, LOOK);
            }
            if outcome.successor == Some(child.id()) {
                return Ok(());
            }
            drop(outcome);
            match child.try_wait() {
                Ok(Some(status)) => {
                    return Err(format!("the new process ended ({status}); its error log says why"));
                }
                Ok(None) if Instant::now() < until => {}
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("the new process was not ready in time (`process.upgrade_time`)".to_owned());
                }
            }
        }
    }

    fn hello(
        &self,
        stream: &UnixStream,
        protocols: &[u32],
        (build, takes_ahead): (&str, bool),
    ) -> io::Result<()> {
        let Some(protocol) = wire::common(protocols) else {
            let ours = wire::PROTOCOLS;
            return refuse(
                stream,
                &format!("no common version of the hand-over: {ours:?} and {protocols:?}"),
            );
        };
        if self.outcome.lock().successor.is_some() {
            return refuse(stream, "another process has taken over already");
        }
        if self.under_way.swap(true, Ordering::AcqRel) {
            return refuse(stream, "another hand-over is under way");
        }
        let peer = rustix::net::sockopt::socket_peercred(stream)?.pid;
        let process = pidfd_open(peer, PidfdFlags::empty()).ok();
        let peer = peer.as_raw_nonzero().get();
        log::info!("hand-over begins pid={peer} build={build}");
        // A reload that runs ends first; the next one waits.
        let turn = self.serving.turn.blocking_lock();
        let handed_over = self.hand_over(stream, (protocol, takes_ahead), process.as_ref());
        if handed_over.is_err() {
            self.serving.state.resume();
            self.serving.listeners.open();
            self.serving.admin.open();
        }
        drop(turn);
        match handed_over {
            Ok(()) => {
                let pid = peer.unsigned_abs();
                log::info!("hand-over done pid={pid}");
                self.serving.admin.close();
                self.answer(pid);
                (self.serving.handed_over)(pid);
                Ok(())
            }
            Err(error) => {
                self.under_way.store(false, Ordering::Release);
                log::error!("hand-over failed pid={peer}; this process goes on serving: {error}");
                let _ = refuse(stream, &error.to_string());
                Ok(())
            }
        }
    }

    /// Has those who asked for the hand-over told of it: an idle process ends at once.
    fn answer(&self, successor: u32) {
        let mut outcome = self.outcome.lock();
        outcome.successor = Some(successor);
        self.changed.notify_all();
        let answered = |outcome: &mut Outcome| outcome.asking > 0;
        self.changed.wait_while_for(&mut outcome, answered, ANSWER);
    }

    /// The steps of the table in the module's words. Whoever calls opens the gates again if it fails.
    fn hand_over(
        &self,
        stream: &UnixStream,
        (protocol, takes_ahead): (u32, bool),
        process: Option<&OwnedFd>,
    ) -> io::Result<()> {
        self.give_sockets(stream, protocol)?;
        stream.set_read_timeout(Some(self.serving.patience))?;
        expect(stream, &Message::Ready)?;
        let mut ahead = if takes_ahead { self.serving.state.ahead() } else { Ahead::default() };
        for piece in &mut ahead {
            wire::send(stream, &Message::State { state: vec![piece] }, &[])?;
        }
        self.serving.listeners.pause();
        self.serving.admin.pause();
        wire::send(stream, &Message::Go { state: self.serving.state.export(&ahead) }, &[])?;
        stream.set_read_timeout(Some(GAP))?;
        expect(stream, &Message::Accepting)?;
        wire::send(stream, &Message::Done, &[])?;
        match wire::receive(stream) {
            // A process that dies at this last moment leaves the conversation without a word, as builds do
            // that do not know the word.
            Err(_) if process.is_some_and(has_died) => {
                Err(io::Error::other("the new process died when it was to serve"))
            }
            _ => Ok(()),
        }
    }

    fn give_sockets(&self, stream: &UnixStream, protocol: u32) -> io::Result<()> {
        let mut all: Vec<(Handed, TcpListener)> = Vec::new();
        for (listeners, admin) in [(&self.serving.listeners, false), (&self.serving.admin, true)] {
            let handed = |name: String, address: SocketAddr| Handed { name, address, admin };
            let sockets = listeners.sockets()?.into_iter();
            all.extend(sockets.map(|(name, address, socket)| (handed(name.to_string(), address), socket)));
        }
        let pid = std::process::id();
        wire::send(stream, &Message::Sockets { protocol, pid, count: all.len() }, &[])?;
        let mut rest = all;
        while !rest.is_empty() {
            let batch: Vec<_> = rest.drain(..rest.len().min(wire::BATCH)).collect();
            let (sockets, fds): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let fds: Vec<_> = fds.iter().map(TcpListener::as_fd).collect();
            wire::send(stream, &Message::Batch { sockets }, &fds)?;
        }
        Ok(())
    }
}

/// True if a process has ended, or does in this moment.
fn has_died(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&LAST_BREATH)).is_ok_and(|ready| ready > 0)
}

fn expect(stream: &UnixStream, wanted: &Message) -> io::Result<()> {
    match wire::receive(stream) {
        Ok((message, _)) if message == *wanted => Ok(()),
        Ok((Message::Refused { why }, _)) => Err(io::Error::other(why)),
        Ok((message, _)) => Err(io::Error::other(format!("expected {wanted:?}, got {message:?}"))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other(format!("the other process was silent where {wanted:?} is due")))
        }
        Err(error) => Err(error),
    }
}

fn refuse(stream: &UnixStream, why: &str) -> io::Result<()> {
    wire::send(stream, &Message::Refused { why: why.to_owned() }, &[])
}
