//! The process that supervises this one, as systemd does: what it is told (sd_notify(3)), and the sockets
//! that it gives (sd_listen_fds(3)). Both come by the environment, which is read once.

use crate::listen::Listeners;
use crate::values::Problem;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use rustix::time::{ClockId, clock_gettime};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a message may wait for room in the supervisor's queue.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a process adds to its own bounds when it says how long its end may take.
const MARGIN: Duration = Duration::from_secs(5);

/// What a process that is started by this one must not inherit: they are about this process alone.
pub const OF_THIS_PROCESS: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Where the supervisor is told how it goes. Without one, nothing is said. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    address: SocketAddr,
    socket: UnixDatagram,
    watchdog: Option<Duration>,
    /// What it was last told of how this process is.
    status: Mutex<String>,
    /// Another process has the word.
    silent: AtomicBool,
}

impl Supervisor {
    /// The one of this environment, if there is one: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` with
    /// `WATCHDOG_PID`.
    ///
    /// # Errors
    /// There is one, and it cannot be talked to.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Problem> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let told = || {
            let address = address(&name)?;
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok::<_, io::Error>((address, socket))
        };
        let (address, socket) = told().map_err(|error| {
            Problem::new(format!("`NOTIFY_SOCKET={}`: {error}", name.display()))
                .remedy("it has to be a path, or a name in the abstract namespace with a leading `@`")
        })?;
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let is_mine = variable("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_mine && *micros > 0);
        let watchdog = watchdog.map(Duration::from_micros);
        Ok(Self(Some(Arc::new(Told {
            address,
            socket,
            watchdog,
            status: Mutex::default(),
            silent: AtomicBool::new(false),
        }))))
    }

    /// Requests are served, after a start or after a reload. Without a status, the last one holds.
    pub fn ready(&self, status: Option<&str>) {
        let Some(told) = &self.0 else { return };
        let mut last = told.status.lock();
        if let Some(status) = status {
            *last = line(status);
        }
        self.say(&format!("READY=1\nSTATUS={last}"));
    }

    /// A configuration is read; [`Self::ready`] follows, whatever comes of it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration"));
    }

    /// The process ends, in this time.
    pub fn stopping(&self, longest: Duration) {
        let micros = (longest + MARGIN).as_micros();
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=requests come to their end"));
    }

    /// From now on this process is the one to watch.
    pub fn hand_over(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}"));
        self.fall_silent();
    }

    /// Says nothing more: the end of this process is not that of the service.
    pub fn fall_silent(&self) {
        if let Some(told) = &self.0 {
            told.silent.store(true, Ordering::Release);
        }
    }

    /// How often at least it wants to hear that this process lives.
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|told| told.watchdog)
    }

    fn say(&self, words: &str) {
        let Some(told) = self.0.as_ref().filter(|told| !told.silent.load(Ordering::Acquire)) else { return };
        if let Err(error) = told.socket.send_to_addr(words.as_bytes(), &told.address) {
            log::warn!("the supervisor was not told {words:?}: {error}");
        }
    }
}

/// A name with a leading `@` is one in the abstract namespace (unix(7)).
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

/// Messages are lines.
fn line(text: &str) -> String {
    text.split(char::is_control).fold(String::new(), |mut line, part| {
        let _ = write!(line, "{}{part}", if line.is_empty() { "" } else { " " });
        line
    })
}

/// Tells the supervisor that this process lives: that the workers which serve requests still do what they
/// are given.
pub struct Watchdog {
    /// Who is told.
    pub supervisor: Supervisor,
    /// What the workers serve.
    pub listeners: Listeners,
}

#[async_trait]
impl BackgroundService for Watchdog {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(within) = self.supervisor.watchdog() else { return };
        // As sd_watchdog_enabled(3) recommends.
        let mut tick = tokio::time::interval(within / 2);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let beat = async {
            loop {
                tick.tick().await;
                self.listeners.alive().await;
                self.supervisor.say("WATCHDOG=1");
            }
        };
        tokio::select! {
            () = beat => {}
            _ = shutdown.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Supervisor, Problem> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Supervisor::of(|name| find(name).map(|(_, value)| value.into()))
    }

    #[test]
    fn without_a_socket_nothing_is_said() {
        for variables in [&[][..], &[("NOTIFY_SOCKET", "")], &[("WATCHDOG_USEC", "5")]] {
            let supervisor = of(variables).unwrap();
            assert!(supervisor.0.is_none() && supervisor.watchdog().is_none());
            supervisor.ready(Some("nobody hears it"));
        }
    }

    #[test]
    fn names_that_are_no_socket() {
        for name in ["relative", "vsock:2:1234", &format!("/{}", "x".repeat(200))] {
            let problem = of(&[("NOTIFY_SOCKET", name)]).unwrap_err();
            assert!(problem.what.contains("NOTIFY_SOCKET"), "{problem}");
        }
    }

    #[test]
    fn a_watchdog_is_for_one_process() {
        let own = std::process::id().to_string();
        let watchdog = |more: &[(&str, &str)]| {
            of(&[&[("NOTIFY_SOCKET", "@x")], more].concat()).unwrap().watchdog().map(|time| time.as_micros())
        };
        assert_eq!(watchdog(&[]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000")]), Some(3_000_000));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &own)]), Some(3_000_000));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "x")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "often")]), None);
    }

    #[test]
    fn what_is_said_is_lines() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = of(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        let heard = || {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        supervisor.ready(Some("two\nREADY=0\r\nlines"));
        assert_eq!(heard(), "READY=1\nSTATUS=two READY=0  lines");
        supervisor.ready(None);
        assert_eq!(heard(), "READY=1\nSTATUS=two READY=0  lines");
        supervisor.stopping(Duration::from_secs(30));
        assert!(heard().starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000\nSTATUS="));
        supervisor.clone().hand_over(77);
        assert_eq!(heard(), "MAINPID=77");
        supervisor.stopping(Duration::ZERO);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err(), "another process has the word");
    }
}
