use super::{Answer, PATIENCE, send, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

/// The real binary.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_remove("RUST_LOG");
    command
}

/// A port on loopback that nobody has, below those that the system gives to outgoing connections,
/// so that it stays free until a process that is started now binds it.
pub fn quiet_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + ((std::process::id() * 17 + step) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A `tollgate run` of its own, killed when it is dropped.
pub struct Process {
    child: Child,
    admin: SocketAddr,
}

impl Process {
    /// Runs the configuration at `path`, whose admin listener is on `admin`, and waits until it is
    /// ready. Its standard error goes to `errors.log` beside the configuration.
    ///
    /// # Panics
    /// If it ends before, with what it said.
    pub fn run(path: &Path, admin: u16, environment: &[(&str, &str)]) -> Self {
        let mut command = binary();
        command.arg("run").arg("-c").arg(path).envs(environment.iter().copied());
        Self::begin(command, path, admin)
    }

    /// As [`Self::run`], with at most so many file descriptors.
    pub fn run_limited(path: &Path, admin: u16, descriptors: Option<u64>) -> Self {
        let Some(most) = descriptors else { return Self::run(path, admin, &[]) };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" run -c \"$1\"")]);
        command.arg(env!("CARGO_BIN_EXE_tollgate")).arg(path).env_remove("RUST_LOG");
        Self::begin(command, path, admin)
    }

    fn begin(mut command: Command, path: &Path, admin: u16) -> Self {
        let log = path.parent().unwrap().join("errors.log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        let mut process = Self { child: command.spawn().unwrap(), admin };
        wait_until("the process is ready", || {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            TcpStream::connect(admin).is_ok() && process.admin("GET", "/readyz").status == 200
        });
        process
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks its admin listener, with the token `secret`.
    pub fn admin(&self, method: &str, path: &str) -> Answer {
        let fields =
            "host: admin\r\nconnection: close\r\nauthorization: Bearer secret\r\ncontent-length: 0\r\n";
        send(self.admin, &format!("{method} {path} HTTP/1.1\r\n{fields}\r\n"))
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the process does not end");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `curl` of the system: whole answers, heads included, on standard output.
pub fn curl(folder: &Path, arguments: &[String]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "-i", "--noproxy", "*", "--max-time", "30"]).args(arguments);
    command.current_dir(folder).stdin(Stdio::null());
    command.output().expect("curl is installed (packaging/install-deps.sh test)")
}
