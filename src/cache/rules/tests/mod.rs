//! The requirements of the standards on caches, one test each, named by section in its message.

mod asking;
mod keys;
mod properties;
mod reading;
mod storing;
mod times;

use super::directives::RequestDirectives;
use super::freshness::Exchange;
use super::storing::{Asked, Refusal, Storable, storable};
use crate::policy::cache::Settings;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::time::Duration;

/// When the tests take place: Sun, 06 Nov 1994 08:49:37 GMT, of all dates the standard's.
const NOW: Duration = Duration::from_secs(784_111_777);
const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT";

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fields, one a line.
fn head(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let name: HeaderName = name.trim().parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
    }
    headers
}

fn at_once() -> Exchange {
    Exchange { asked: NOW, answered: NOW }
}

/// What is kept of a 200 answer to a plain GET.
fn keep(answer: &str) -> Result<Storable, Refusal> {
    keep_with("", 200, answer, &Settings::default())
}

fn keep_with(request: &str, status: u16, answer: &str, settings: &Settings) -> Result<Storable, Refusal> {
    let request = head(request);
    let directives = RequestDirectives::of(&request);
    let asked = Asked {
        method: &Method::GET,
        directives: &directives,
        is_personal: super::storing::has_credentials(&request),
    };
    let status = StatusCode::from_u16(status).unwrap();
    storable(asked, (status, &head(answer)), at_once(), settings).map(|(storable, _)| storable)
}
