//! `tollgate demo`: serves a configuration with two small origins and an issuer of tokens on loopback.

use super::issuer::{self, Issuer};
use super::{print, run};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where the demo's origins listen; `conf/gateway.yaml` sends requests there.
pub const ORIGINS: [&str; 2] = ["127.0.0.1:9101", "127.0.0.1:9102"];

pub(super) fn main(config: &Path) -> ExitCode {
    let Some(issuer) = Issuer::new().map(Arc::new) else {
        super::complain("tollgate: the demo's issuer has no key: the system has no random numbers\n");
        return ExitCode::FAILURE;
    };
    for address in ORIGINS.into_iter().chain([issuer::ADDRESS]) {
        match TcpListener::bind(address) {
            Ok(listener) => {
                let issuer = (address == issuer::ADDRESS).then(|| Arc::clone(&issuer));
                std::thread::spawn(move || serve(&listener, issuer.as_ref()));
            }
            Err(error) => {
                super::complain(&format!(
                    "tollgate: the demo cannot listen on {address}: {error}; stop what listens there, such as another demo\n"
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
        if snapshot.identity.provider_names().any(|name| name == "demo") {
            text.push_str(&format!(
                "  curl -i http://{address}/whoami -H \"authorization: Bearer $(curl -s http://{}/token)\"\n",
                issuer::ADDRESS
            ));
        }
    }
    if let Some(address) = handle.admin_address() {
        text.push_str(&format!("  curl -s http://{address}/metrics | grep tollgate_http_requests_total\n"));
    }
    text.push('\n');
    text
}

/// A thread for each connection: an origin for trying things out, not for load.
pub(super) fn serve(listener: &TcpListener, issuer: Option<&Arc<Issuer>>) {
    let name = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    for stream in listener.incoming().flatten() {
        let (name, issuer) = (name.clone(), issuer.cloned());
        std::thread::spawn(move || answer(&stream, &name, issuer.as_deref()));
    }
}

fn answer(stream: &TcpStream, name: &str, issuer: Option<&Issuer>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut lines = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut request_line = String::new();
        if lines.read_line(&mut request_line)? == 0 {
            return Ok(());
        }
        let (mut length, mut last) = (0_u64, false);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((field, value)) = line.trim_end().split_once(':') else { break };
            if field.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
            last |= field.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
        }
        std::io::copy(&mut lines.by_ref().take(length), &mut std::io::sink())?;
        let asked = request_line.trim_end().trim_end_matches(" HTTP/1.1");
        let target = asked.split(' ').nth(1).unwrap_or_default();
        let (status, kind, body) = match issuer.map(|issuer| issuer.answer(target, SystemTime::now())) {
            None => ("200 OK", "text/plain", format!("Hello from the origin at {name}: {asked}\n")),
            Some(Some((kind, body))) => ("200 OK", kind, body),
            Some(None) => ("404 Not Found", "text/plain", "/keys, /token?sub=alice&scope=…\n".to_owned()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        writer.write_all(head.as_bytes())?;
        if !asked.starts_with("HEAD ") {
            writer.write_all(body.as_bytes())?;
        }
        if last {
            return Ok(());
        }
    }
}
