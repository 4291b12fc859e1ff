//! From what a configuration says of a server to an [`Introspection`].

use super::{Breaker, Inner, Introspection, IntrospectionConfig, OVERHEAD, State, Weight, WhenDown};
use crate::identity::Building;
use crate::identity::claims::Expected;
use crate::identity::client_auth::Credentials;
use crate::identity::presented::Places;
use crate::identity::tokens::Seed;
use crate::retained::StableId;
use crate::values::{ConfigPath, Finding, Problem, Sha256};
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// The largest token that may be allowed, in bytes.
const LARGEST_TOKEN: u64 = 64 << 10;
/// About how much memory an answer takes.
const USUAL: u64 = OVERHEAD as u64 + 1024;

impl Introspection {
    /// Compiles a provider.
    ///
    /// # Errors
    /// All that is wrong with it, with paths from its own key.
    pub(in crate::identity) fn compile(
        name: &str,
        config: &IntrospectionConfig,
        building: &Building<'_>,
    ) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let mut wrong = |path: &[&str], problem: Problem| {
            let path = path.iter().fold(ConfigPath::root(), |path, key| path.key(key));
            found.push(Finding::error(path, problem));
        };
        if config.client_id.is_empty() {
            wrong(
                &["client_id"],
                Problem::new("the client has no name").remedy("write the one it has there"),
            );
        }
        if config.max_size.is_empty() || config.max_size.bytes() > LARGEST_TOKEN {
            let problem = Problem::new(format!("{} is no size for tokens", config.max_size));
            wrong(&["max_size"], problem.remedy("write 1B to 64KiB; 8KiB is usual"));
        }
        let from = ConfigPath::root().key("from");
        let places = Places::compile(&config.from)
            .map_err(|wrong| found.extend(wrong.into_iter().map(|finding| finding.under(&from))));
        let ca = ConfigPath::root().key("call").key("ca");
        let client = building.outbound.client(&config.call);
        let client = client.map_err(|problem| found.push(Finding::error(ca, problem)));
        let (Ok(places), Ok(client), true) = (places, client, found.is_empty()) else {
            return Err(found);
        };
        let id = StableId::new("introspection", format!("{name} {} {}", config.url, config.client_id));
        let state = building.retained.get_or(id, || State::new(config.memory.bytes()));
        state.resize(config.memory.bytes());
        let stale = match config.when_down {
            WhenDown::Deny => Duration::ZERO,
            WhenDown::AllowStale(time) => time.get(),
        };
        let inner = Inner {
            name: name.into(),
            url: config.url.clone(),
            credentials: Credentials {
                id: config.client_id.clone(),
                secret: config.client_secret.clone(),
                auth: config.client_auth,
            },
            client,
            expected: Expected {
                issuer: config.issuer.as_deref().map(Into::into),
                audiences: config.audiences.clone(),
                required: config.required.iter().map(|name| name.as_str().into()).collect(),
                leeway: 0,
                max_age: None,
            },
            cache: config.cache.get(),
            negative: config.negative.get(),
            stale,
            breaker: config.breaker,
            in_flight: config.in_flight.get().into(),
            max_size: config.max_size.len(),
            places,
            forward: config.forward,
            consumers: Arc::clone(building.consumers),
            prefix: state.seed.prefix(Sha256::of(format!("{name} {config:?}").as_bytes()).bytes()),
            state,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl State {
    fn new(bytes: u64) -> Self {
        let usual = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX);
        Self {
            seed: Seed::new(),
            known: Cache::with_weighter(usual, bytes, Weight),
            flights: Arc::default(),
            room: Arc::default(),
            breaker: Breaker::default(),
        }
    }

    fn resize(&self, bytes: u64) {
        if self.known.capacity() != bytes {
            self.known.set_capacity(bytes);
        }
    }
}
