//! From what a configuration says of a service to a [`Forward`].

use super::{Forward, ForwardConfig, Refusals, State, Weight};
use crate::identity::Building;
use crate::message::hop_by_hop::is_the_protocols;
use crate::retained::StableId;
use crate::values::{ConfigPath, Finding, Problem, Sha256};
use http::header::EXPECT;
use http::{HeaderName, StatusCode};
use quick_cache::sync::Cache;
use std::sync::Arc;

/// About how much memory an answer takes.
const USUAL: u64 = 1024;

impl Forward {
    /// Compiles a provider.
    ///
    /// # Errors
    /// All that is wrong with it, with paths from its own key.
    pub(in crate::identity) fn compile(
        name: &str,
        config: &ForwardConfig,
        building: &Building<'_>,
    ) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let root = ConfigPath::root();
        let send = fields(&config.send, &root.key("send"), &mut found);
        let credentials = fields(&config.credentials, &root.key("credentials"), &mut found);
        let take = fields(&config.take, &root.key("take"), &mut found);
        let subject = config.subject.as_ref().and_then(|text| {
            let parsed = field(text);
            parsed.map_err(|problem| found.push(Finding::error(root.key("subject"), problem))).ok()
        });
        let refusals = refusals(config, &mut found);
        if config.cache.as_ref().is_some_and(|cache| cache.time.is_zero()) {
            let problem = Problem::new("nothing would be remembered").remedy("leave `cache` out");
            found.push(Finding::error(root.key("cache").key("time"), problem));
        }
        let ca = root.key("call").key("ca");
        let client = building.outbound.client(&config.call);
        let client = client.map_err(|problem| found.push(Finding::error(ca, problem)));
        let (Ok(client), true) = (client, found.is_empty()) else { return Err(found) };
        let in_flight = usize::from(config.in_flight.get());
        let id = StableId::new("forward", format!("{name} {} {in_flight}", config.url));
        let memory = config.cache.as_ref().map_or(0, |cache| cache.memory.bytes());
        let state = building.retained.get_or(id, || State::new(memory));
        state.resize(memory);
        Ok(Self {
            name: name.into(),
            url: config.url.clone(),
            client,
            send,
            credentials,
            take,
            subject,
            refusals,
            cache: config.cache.as_ref().map(|cache| cache.time.get()),
            breaker: config.breaker,
            in_flight,
            consumers: Arc::clone(building.consumers),
            expects: Sha256::of(format!("{name} {config:?}").as_bytes()),
            state,
        })
    }
}

fn fields(names: &[String], path: &ConfigPath, found: &mut Vec<Finding>) -> Box<[HeaderName]> {
    let parse = |(index, text): (usize, &String)| {
        field(text).map_err(|problem| found.push(Finding::error(path.index(index), problem))).ok()
    };
    names.iter().enumerate().filter_map(parse).collect()
}

fn field(text: &str) -> Result<HeaderName, Problem> {
    let shown: String = text.chars().take(40).collect();
    let name: HeaderName = text.parse().map_err(|_| {
        Problem::new(format!("{shown:?} is not a header field's name"))
            .remedy("use letters, digits and hyphens, such as `x-user`")
    })?;
    if is_the_protocols(name.as_str()) || name == EXPECT || name.as_str().starts_with("x-forwarded-") {
        return Err(Problem::new(format!("`{name}` belongs to the gateway")).remedy("leave it out"));
    }
    Ok(name)
}

fn refusals(config: &ForwardConfig, found: &mut Vec<Finding>) -> Refusals {
    let path = ConfigPath::root().key("refusals");
    let config = &config.refusals;
    let status = |(index, status): (usize, &u16)| {
        let known = StatusCode::from_u16(*status).ok().filter(|status| (300..500).contains(&status.as_u16()));
        if known.is_none() {
            let problem = Problem::new(format!("{status} is not the status of a refusal"))
                .remedy("write statuses from 300 to 499");
            found.push(Finding::error(path.key("statuses").index(index), problem));
        }
        known
    };
    let statuses = config.statuses.iter().enumerate().filter_map(status).collect();
    Refusals { statuses, headers: fields(&config.headers, &path.key("headers"), found), body: config.body }
}

impl State {
    fn new(memory: u64) -> Self {
        let usual = usize::try_from(memory / USUAL).unwrap_or(usize::MAX).max(1);
        Self {
            seed: crate::identity::tokens::Seed::new(),
            known: Cache::with_weighter(usual, memory, Weight),
            breaker: super::Breaker::default(),
            room: Arc::default(),
        }
    }

    fn resize(&self, memory: u64) {
        if self.known.capacity() != memory {
            self.known.set_capacity(memory);
        }
    }
}
