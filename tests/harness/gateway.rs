use super::{Answer, PATIENCE, send};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tempfile::TempDir;
use tollgate::server::{self, Handle, Options};

/// A gateway that serves until it is dropped.
pub struct Gateway {
    handle: Handle,
    folder: TempDir,
    addresses: BTreeMap<String, SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Serves a configuration. `PORT_name` in it is the port of the listener of that name (`admin`
    /// for the admin listener), from the operating system; without an `admin` section there is
    /// none.
    ///
    /// # Panics
    /// If the configuration is refused, with its report.
    pub fn start(yaml: &str) -> Self {
        Self::start_in(TempDir::new().unwrap(), yaml)
    }

    /// As [`Self::start`], with files that are in a folder already.
    pub fn start_in(folder: TempDir, yaml: &str) -> Self {
        Self::start_files(folder, "gateway.yaml", &[("gateway.yaml", yaml)])
    }

    /// As [`Self::start_in`], with several files; `path`, a file or a folder, is what is loaded.
    pub fn start_files(folder: TempDir, path: &str, files: &[(&str, &str)]) -> Self {
        let all = files.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n");
        let mut sockets = BTreeMap::new();
        for (at, (file, text)) in files.iter().enumerate() {
            let defaults = if at == 0 { missing_sections(&all) } else { String::new() };
            let text = with_ports(&format!("{defaults}{text}"), &mut sockets);
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let addresses: BTreeMap<String, SocketAddr> =
            sockets.iter().map(|(name, socket)| (name.clone(), socket.local_addr().unwrap())).collect();
        let path = folder.path().join(path);
        let (built, built_here) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let options = Options { sockets, ..Options::default() };
            match server::build(&path, options) {
                Ok((assembly, _)) => {
                    built.send(Ok(assembly.handle().clone())).unwrap();
                    assembly.run();
                }
                Err(errors) => built.send(Err(errors.to_string())).unwrap(),
            }
        });
        let handle = built_here.recv().unwrap().unwrap_or_else(|report| panic!("{report}"));
        assert!(handle.ready_within(PATIENCE), "the gateway is not ready");
        Self { handle, folder, addresses, thread: Some(thread) }
    }

    /// Where a listener listens.
    pub fn at(&self, listener: &str) -> SocketAddr {
        self.addresses[listener]
    }

    /// Where the listener `web` listens.
    pub fn web(&self) -> SocketAddr {
        self.at("web")
    }

    /// The gateway from outside.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// Writes another configuration, ports filled in as at the start, without a reload.
    pub fn rewrite(&self, yaml: &str) {
        let mut yaml = format!("{}{yaml}", missing_sections(yaml));
        for (name, address) in &self.addresses {
            yaml = yaml.replace(&format!("PORT_{name}"), &address.port().to_string());
        }
        let fresh = self.folder.path().join("next.tmp");
        std::fs::write(&fresh, yaml).unwrap();
        std::fs::rename(fresh, self.config()).unwrap();
    }

    /// Asks the admin listener. `fields` are further header lines, each with its line break.
    pub fn admin(&self, method: &str, path: &str, fields: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{fields}\r\n");
        send(self.at("admin"), &request)
    }

    /// Reloads by the admin listener, with the token `secret`.
    pub fn reload(&self) -> Answer {
        self.admin("POST", "/reload", "authorization: Bearer secret\r\ncontent-length: 0\r\n")
    }

    /// The value of a metric, by its name and labels as the admin listener writes them; zero if it
    /// is not there yet.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("GET", "/metrics", "").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Stops as SIGTERM does, and waits for the end.
    pub fn stop(mut self) {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.handle.kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tests say what matters to them: no admin listener and no access log on the test's output unless
/// asked for.
fn missing_sections(yaml: &str) -> String {
    let sections = [
        ("version:", "version: 1\n"),
        ("admin:", "admin: off\n"),
        ("telemetry:", "telemetry: { access_log: off }\n"),
        ("process:", "process: { workers: 2, drain: 10s }\n"),
    ];
    let has = |section: &str| yaml.lines().any(|line| line.starts_with(section));
    sections.iter().filter(|(section, _)| !has(section)).map(|(_, default)| *default).collect()
}

fn with_ports(yaml: &str, sockets: &mut BTreeMap<String, TcpListener>) -> String {
    let mut yaml = yaml.to_owned();
    while let Some(at) = yaml.find("PORT_") {
        let name: String = yaml[at + 5..].chars().take_while(char::is_ascii_alphanumeric).collect();
        let socket = sockets.entry(name.clone()).or_insert_with(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let port = socket.local_addr().unwrap().port().to_string();
        yaml = yaml.replace(&format!("PORT_{name}"), &port);
    }
    yaml
}
