//! `tollgate token`: a token of the demo's issuer.

use super::{complain, issuer, print};
use crate::outbound::{Call, CallConfig, Outbound};
use crate::values::Problem;
use http::StatusCode;
use std::process::ExitCode;

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
    match fetch(issuer::ADDRESS, &format!("/token?{}", query.finish())) {
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

fn fetch(address: &str, target: &str) -> Result<String, String> {
    let url = format!("http://{address}{target}").parse().map_err(|problem: Problem| problem.to_string())?;
    let client = Outbound::default().client(&CallConfig::default()).map_err(|problem| problem.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let answer = runtime.block_on(client.call(Call::get(url))).map_err(|failure| failure.to_string())?;
    match String::from_utf8(answer.body.into()) {
        Ok(token) if answer.status == StatusCode::OK => Ok(token),
        _ => Err("it answered with something else".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{demo, issuer::Issuer};
    use std::net::TcpListener;
    use std::sync::Arc;

    #[test]
    fn the_demos_issuer_gives_a_token_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let issuer = Arc::new(Issuer::new().unwrap());
        std::thread::spawn(move || demo::serve(&listener, Some(&issuer)));
        let token = fetch(&address, "/token?sub=bob").unwrap();
        assert_eq!(token.trim().split('.').count(), 3, "{token}");
        assert!(fetch(&address, "/nothing").is_err());
    }
}
