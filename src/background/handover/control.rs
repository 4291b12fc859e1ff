//! The control socket itself, and what a command says over it.

use super::wire::{self, Message};
use super::{GAP, WORD};
use crate::values::Problem;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A control socket, bound beside its place until [`Control::publish`] puts it there. Removed when it is
/// dropped, unless somebody else's has taken its place.
#[derive(Debug)]
pub struct Control {
    pub(super) socket: UnixListener,
    path: PathBuf,
    beside: PathBuf,
    /// Device and inode, by which it knows itself.
    own: (u64, u64),
}

impl Control {
    /// Binds a socket beside `path`.
    ///
    /// # Errors
    /// Why it cannot be bound.
    pub fn bind(path: &Path) -> Result<Self, Problem> {
        let beside = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
        let bind = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder)?;
            }
            // Of a process that had our number and did not come to its end.
            let _ = fs::remove_file(&beside);
            let socket = UnixListener::bind(&beside)?;
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
            socket.set_nonblocking(true)?;
            let data = fs::metadata(&beside)?;
            Ok::<_, io::Error>((socket, (data.dev(), data.ino())))
        };
        let (socket, own) = bind().map_err(|error| {
            Problem::new(format!("the control socket `{}` cannot be bound: {error}", path.display()))
                .remedy("name a path of less than 90 bytes in a folder that the gateway may write to")
        })?;
        Ok(Self { socket, path: path.to_owned(), beside, own })
    }

    /// Puts it in its place, and whatever was there away.
    ///
    /// # Errors
    /// The folder has gone, or may not be written to.
    pub fn publish(&self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it away, unless somebody else's has its place.
    pub fn remove(&self) {
        for path in [&self.path, &self.beside] {
            if fs::symlink_metadata(path).is_ok_and(|data| (data.dev(), data.ino()) == self.own) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Connects, and makes sure that the other side is this user's, or the system's.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    open(path, false)
}

/// As [`connect`], to ask for something: root may ask whoever is there, who gets nothing of root's.
fn connect_to_ask(path: &Path) -> io::Result<UnixStream> {
    open(path, rustix::process::geteuid().is_root())
}

fn open(path: &Path, whoever: bool) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    if !whoever {
        check_peer(&stream)?;
    }
    stream.set_read_timeout(Some(WORD))?;
    stream.set_write_timeout(Some(WORD))?;
    Ok(stream)
}

/// Only this user and the system's talk to each other here.
pub(super) fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if peer.is_root() || peer == rustix::process::geteuid() {
        return Ok(());
    }
    let why = format!("the other side belongs to user {}", peer.as_raw());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// The number of the process that serves at this control socket, if one does.
pub fn serves(path: &Path) -> Option<u32> {
    let stream = connect_to_ask(path).ok()?;
    wire::send(&stream, &Message::Status, &[]).ok()?;
    match wire::receive(&stream).ok()?.0 {
        Message::Running { pid, .. } => Some(pid),
        _ => None,
    }
}

/// What a new process is to be started with, where it differs from the one that serves.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Another binary.
    pub binary: Option<PathBuf>,
    /// Another configuration.
    pub config: Option<PathBuf>,
}

/// What came of an upgrade.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This process serves now; the one before it drains.
    Upgraded(u32),
    /// Nothing has changed, for this reason.
    Refused(String),
}

/// Has the serving process start one that takes over from it, and waits for what comes of it. `started`
/// is told the new process's number.
///
/// # Errors
/// Nobody serves there, or it went silent.
pub fn ask_to_start(path: &Path, wanted: Wanted, started: impl FnOnce(u32)) -> Result<Answer, Problem> {
    let silent = |error: io::Error| {
        Problem::new(format!("the control socket `{}` does not answer: {error}", path.display()))
            .remedy("is a gateway running with this `process.control`, and as this user?")
    };
    let stream = connect_to_ask(path).map_err(silent)?;
    let Wanted { binary, config } = wanted;
    wire::send(&stream, &Message::Start { binary, config }, &[]).map_err(silent)?;
    // The serving process bounds the rest itself.
    stream.set_read_timeout(Some(Duration::from_secs(3600))).map_err(silent)?;
    let mut started = Some(started);
    loop {
        match wire::receive(&stream).map_err(silent)?.0 {
            Message::Started { pid } => {
                if let Some(started) = started.take() {
                    started(pid);
                }
            }
            Message::Upgraded { pid } => {
                until_in_place(path, pid);
                return Ok(Answer::Upgraded(pid));
            }
            Message::Refused { why } => return Ok(Answer::Refused(why)),
            _ => return Ok(Answer::Refused("the serving process gave an answer that is none".to_owned())),
        }
    }
}

/// Waits until the new process has put its own control socket in this place, so that the next command
/// finds it. It has another place where its configuration says so.
fn until_in_place(path: &Path, pid: u32) {
    let until = Instant::now() + GAP;
    while serves(path).is_some_and(|serving| serving != pid) && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
