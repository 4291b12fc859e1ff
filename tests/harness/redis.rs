use super::{Gateway, Origin, PATIENCE, quiet_port, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A `redis-server` of its own on loopback, ended when it is dropped. It keeps nothing on disk.
pub struct Redis {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// The configuration of a gateway that has it as the store `main`, with these routes to the upstream `origin`.
    pub fn config(&self, origin: &Origin, timeout: &str, routes: &str) -> String {
        format!(
            "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
             admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
             stores: {{ main: {{ redis: {{ address: '{}', timeout: {timeout}, connect_timeout: 10s }} }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\nroutes:\n{routes}",
            self.address(),
            origin.address()
        )
    }

    /// Such a gateway, once it is connected.
    pub fn gateway(&self, origin: &Origin, timeout: &str, routes: &str) -> Gateway {
        let gateway = Gateway::start(&self.config(origin, timeout, routes));
        wait_until("the store is connected", || {
            gateway.metric("tollgate_store_connected{store=\"main\"}") == 1.0
        });
        gateway
    }

    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// As [`Self::start`], with further arguments; the words `PORT` and `FOLDER` in them are the
    /// server's.
    pub fn with(options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let mut redis = Self { folder: TempDir::new().unwrap(), port: 0, options, process: None };
        // Somebody else may take the port between the look and the start.
        for _ in 0..20 {
            redis.port = quiet_port();
            if redis.try_start() {
                return redis;
            }
        }
        panic!("redis-server does not start (packaging/install-deps.sh test)");
    }

    fn try_start(&mut self) -> bool {
        let (port, folder) = (self.port.to_string(), self.folder.path().display().to_string());
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", &folder]);
        if !self.options.iter().any(|option| option == "--port") {
            command.args(["--port", &port]);
        }
        command
            .args(self.options.iter().map(|option| option.replace("PORT", &port).replace("FOLDER", &folder)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("redis-server is installed (packaging/install-deps.sh test)");
        let mut lives = true;
        wait_until("redis-server listens", || {
            lives = child.try_wait().unwrap().is_none();
            !lives || TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        if lives {
            self.process = Some(child);
        }
        lives
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The path of a file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// It stays, and says nothing any more.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().expect("it runs").id();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    /// Ends it; its connections break.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again where it was, with nothing in it.
    pub fn restart(&mut self) {
        self.stop();
        wait_until("its port is free", || self.try_start());
    }

    /// Asks it by a connection of its own, in the clear; what it answers, as one text. Bulk strings and
    /// lists are joined by blanks.
    pub fn ask(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes()).unwrap();
        read(&mut BufReader::new(stream))
    }
}

/// One answer of the protocol (RESP2).
fn read(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "$" if rest == "-1" => "(nil)".to_owned(),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
            reader.read_exact(&mut text).unwrap();
            String::from_utf8_lossy(&text[..text.len() - 2]).into_owned()
        }
        "*" => (0..rest.parse::<i64>().unwrap()).map(|_| read(reader)).collect::<Vec<_>>().join(" "),
        _ => rest.to_owned(),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
