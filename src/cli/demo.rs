//! `tollgate demo`: serves a configuration with two small origins on loopback.

use super::{print, run};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Where the demo's origins listen; `conf/gateway.yaml` sends requests there.
pub const ORIGINS: [&str; 2] = ["127.0.0.1:9101", "127.0.0.1:9102"];

pub(super) fn main(config: &Path) -> ExitCode {
    for address in ORIGINS {
        match TcpListener::bind(address) {
            Ok(listener) => drop(std::thread::spawn(move || serve(&listener))),
            Err(error) => {
                super::complain(&format!(
                    "tollgate: the demo's origin cannot listen on {address}: {error}\n"
                ));
                return ExitCode::FAILURE;
            }
        }
    }
    let assembly = match run::assemble(config, None) {
        Ok(assembly) => assembly,
        Err(code) => return code,
    };
    let handle = assembly.handle().clone();
    std::thread::spawn(move || {
        if handle.ready_within(Duration::from_secs(60)) {
            print(&invitation(&handle));
        }
    });
    assembly.run();
    ExitCode::SUCCESS
}

fn invitation(handle: &crate::server::Handle) -> String {
    let snapshot = handle.current.load();
    let first = snapshot.listeners.iter().flatten().find(|listener| listener.tls.is_none());
    let mut text = String::from("\nTollgate serves. Try:\n\n");
    if let Some(address) = first.and_then(|listener| handle.listeners.address(listener.id)) {
        text.push_str(&format!(
            "  curl -i http://{address}/hello\n  curl -i http://{address}/echo/anything?a=b\n"
        ));
    }
    if let Some(address) = handle.admin_address() {
        text.push_str(&format!("  curl -s http://{address}/metrics | grep tollgate_http_requests_total\n"));
    }
    text.push('\n');
    text
}

/// A thread for each connection: an origin for trying things out, not for load.
fn serve(listener: &TcpListener) {
    let name = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    for stream in listener.incoming().flatten() {
        let name = name.clone();
        std::thread::spawn(move || answer(&stream, &name));
    }
}

fn answer(stream: &TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut lines = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut request_line = String::new();
        if lines.read_line(&mut request_line)? == 0 {
            return Ok(());
        }
        let mut length = 0_u64;
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((field, value)) = line.trim_end().split_once(':') else { break };
            if field.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        std::io::copy(&mut lines.by_ref().take(length), &mut std::io::sink())?;
        let asked = request_line.trim_end().trim_end_matches(" HTTP/1.1");
        let body = format!("Hello from the origin at {name}: {asked}\n");
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len());
        writer.write_all(head.as_bytes())?;
        if !asked.starts_with("HEAD ") {
            writer.write_all(body.as_bytes())?;
        }
    }
}
