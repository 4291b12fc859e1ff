//! Where to: upstreams, their endpoints, and which of them gets the next request.

pub mod balance;
mod endpoint;
mod key;
mod maker;
pub mod peer;
pub mod retry;
mod set;
mod tls;

pub use endpoint::{Choice, Endpoint, EndpointState};
pub use key::Asking;
pub use set::EndpointSet;

use crate::config::model::upstream as model;
use crate::retained::{Retained, StableId};
use crate::values::{ConfigPath, Finding, Name};
use http::HeaderValue;
use key::Key;
use maker::Maker;
use retry::Retries;
use std::sync::Arc;
use tls::UpstreamTls;

/// An upstream, compiled.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// What the upstream sees as Host.
    pub host: Host,
    /// How long things may take.
    pub timeouts: model::Timeouts,
    /// When a request is tried again.
    pub retries: Retries,
    key: Key,
    set: EndpointSet,
    /// Holds what must not be drawn anew by a reload.
    _maker: Maker,
}

/// The Host that an upstream sees.
#[derive(Debug)]
pub enum Host {
    /// The client's.
    Keep,
    /// The endpoint's address.
    Endpoint,
    /// This one.
    Name(HeaderValue),
}

impl Upstream {
    /// Makes of the text what requests are sent by. The text was checked: it has endpoints, not
    /// all of weight zero, and its host is one. Paths of findings are relative to the upstream.
    ///
    /// # Errors
    /// All findings, the warnings included, if one of them is an error.
    pub fn compile(
        name: &Name,
        config: &Arc<model::Upstream>,
        retained: &Arc<Retained>,
    ) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let under_tls = |findings: Vec<Finding>| {
            let path = ConfigPath::root().key("tls");
            findings.into_iter().map(|finding| finding.under(&path)).collect::<Vec<_>>()
        };
        let (tls, warnings) = match config.tls.as_ref().map(UpstreamTls::compile).transpose() {
            Ok(compiled) => compiled.map_or((None, Vec::new()), |(tls, found)| (Some(tls), under_tls(found))),
            Err(found) => return Err(under_tls(found)),
        };
        let maker = Maker::new(name, config, tls.as_ref(), retained);
        let set = maker.set(&config.endpoints).map_err(|(index, problem)| {
            let path = ConfigPath::root().key("endpoints").index(index);
            vec![Finding::error(path, problem)]
        })?;
        let upstream = Self {
            name: name.clone(),
            host: match &config.host {
                model::HostRewrite::Keep => Host::Keep,
                model::HostRewrite::Endpoint => Host::Endpoint,
                model::HostRewrite::Name(host) => Host::Name(header_value(host)),
            },
            timeouts: config.timeouts.clone(),
            retries: Retries::new(
                &config.retry,
                retained.get_or(StableId::new("retries", name), Default::default),
            ),
            key: Key::new(&config.balance),
            set,
            _maker: maker,
        };
        Ok((upstream, warnings))
    }

    /// Its endpoints now.
    pub fn endpoints(&self) -> &EndpointSet {
        &self.set
    }

    /// What of a request decides about its endpoint.
    pub fn hint(&self, asking: &Asking<'_>) -> Option<u64> {
        self.key.hint(asking)
    }

    /// The endpoint for a request that brings `hint`, leaving out those that drain and those in
    /// `tried`. None if that leaves none. If only tried ones are left, one of them gets another
    /// chance.
    pub fn choose(&self, hint: Option<u64>, tried: &[Arc<Endpoint>]) -> Option<Choice> {
        self.set.choose(hint, tried)
    }

    /// The `Set-Cookie` that keeps a client at this endpoint, unless it brought that already.
    pub fn set_cookie(&self, endpoint: &Endpoint, hint: Option<u64>, over_tls: bool) -> Option<HeaderValue> {
        let Key::Sticky(cookie) = &self.key else { return None };
        let id = endpoint.sticky_id.filter(|id| hint != Some(*id))?;
        cookie.value(id, over_tls)
    }
}

/// An address or a checked host is always a header value; were it not, an empty Host would be
/// refused by the upstream rather than misunderstood.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
