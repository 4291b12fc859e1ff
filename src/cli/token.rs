//! `tollgate token`: a token of the demo's issuer.

use super::{complain, issuer, print};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// What the token says.
pub(super) struct Asked {
    pub subject: String,
    pub scope: Option<String>,
    pub expires_in: u64,
    /// `NAME=VALUE` each.
    pub claims: Vec<String>,
}

pub(super) fn main(asked: &Asked) -> ExitCode {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("sub", &asked.subject).append_pair("expires_in", &asked.expires_in.to_string());
    if let Some(scope) = &asked.scope {
        query.append_pair("scope", scope);
    }
    for claim in &asked.claims {
        let Some((name, value)) = claim.split_once('=') else {
            complain(&format!("tollgate: `{claim}` is no claim: write NAME=VALUE\n"));
            return ExitCode::from(2);
        };
        query.append_pair(name, value);
    }
    match fetch(&format!("/token?{}", query.finish())) {
        Ok(token) => {
            print(&token);
            ExitCode::SUCCESS
        }
        Err(why) => {
            let address = issuer::ADDRESS;
            complain(&format!(
                "tollgate: no token from the demo's issuer at {address}: {why}\n  is `tollgate demo` running?\n"
            ));
            ExitCode::FAILURE
        }
    }
}

fn fetch(target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(issuer::ADDRESS)?;
    let time = Some(Duration::from_secs(5));
    stream.set_read_timeout(time)?;
    stream.set_write_timeout(time)?;
    write!(stream, "GET {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", issuer::ADDRESS)?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other("it answered with something else")),
    }
}
