//! Who calls: principals, consumers, and who vouches for them.

pub mod config;
mod consumers;
mod principal;

pub use consumers::Consumers;
pub use principal::{Consumer, Method, Principal};

use crate::retained::Retained;
use crate::telemetry::metrics::{AuthMetrics, Metrics};
use crate::values::{Finding, Name};
use config::{ConsumersConfig, IdentityConfig, PlanConfig};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a configuration says of callers.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Who vouches for them.
    pub identity: &'a IdentityConfig,
    /// Who they are.
    pub consumers: &'a ConsumersConfig,
    /// What plans they may have.
    pub plans: &'a BTreeMap<Name, Arc<PlanConfig>>,
}

/// [`Sources`], compiled: part of a snapshot, lent to policies while they are compiled.
#[derive(Default)]
pub struct Identity {
    consumers: Arc<Consumers>,
    metrics: Option<Arc<Metrics>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("consumers", &self.consumers.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Compiles what can be, and tells all that is wrong with the rest, with paths from the root.
    pub fn compile(
        sources: Sources<'_>,
        retained: &Retained,
        metrics: &Arc<Metrics>,
    ) -> (Self, Vec<Finding>) {
        let mut found = Vec::new();
        let known = consumers::Known { plans: sources.plans, providers: &sources.identity.providers };
        let consumers = Consumers::compile(sources.consumers, known, retained, &mut found);
        (Self { consumers: Arc::new(consumers), metrics: Some(Arc::clone(metrics)) }, found)
    }

    /// The known callers.
    pub fn consumers(&self) -> &Arc<Consumers> {
        &self.consumers
    }

    /// What a way to authenticate counts on; `provider` is the name of a provider, if it has one.
    pub fn counters(&self, method: &'static str, provider: Option<&str>) -> Arc<AuthMetrics> {
        match &self.metrics {
            Some(metrics) => metrics.authentication(method, provider),
            None => Arc::new(AuthMetrics::unseen(method)),
        }
    }
}
