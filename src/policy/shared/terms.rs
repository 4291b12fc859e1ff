//! What rate limits and quotas have in common: by what requests are told apart, what one costs, who counts them, and what
//! is said of it.

use super::cost::{Cost, CostConfig};
use super::fields::FieldsConfig;
use super::key::{Key, KeyConfig};
use super::store_failure::OnFailure;
use crate::outbound::redis::Store;
use crate::policy::{CompileEnv, at};
use crate::telemetry::metrics::LimitMetrics;
use crate::values::{ConfigPath, Finding, Name, Problem};
use std::sync::Arc;

/// As they are written.
#[derive(Clone, Copy)]
pub struct TermsConfig<'c> {
    /// What it is called, if not by its key.
    pub name: Option<&'c Name>,
    /// By what requests are told apart.
    pub key: &'c KeyConfig,
    /// What one costs.
    pub cost: &'c CostConfig,
    /// Whether it only counts.
    pub shadow: bool,
    /// The store that decides.
    pub shared: Option<&'c Name>,
    /// What if that does not answer.
    pub on_failure: OnFailure,
    /// Which answers say what is left.
    pub fields: FieldsConfig,
}

/// [`TermsConfig`], compiled. `S` is how a store is asked.
#[derive(Debug)]
pub struct Terms<S> {
    /// Its own name, or its key's.
    pub name: Box<str>,
    /// By what requests are told apart.
    pub key: Key,
    /// What its counts are found by, for all gateways alike: where it stands, its name, its key.
    pub id: Arc<str>,
    /// What a request costs.
    pub cost: Cost,
    /// It only counts whom it would refuse.
    pub shadow: bool,
    /// Which answers say what is left.
    pub fields: FieldsConfig,
    /// What it did.
    pub metrics: Arc<LimitMetrics>,
    /// The store that decides, by its name, and how it is asked.
    pub shared: Option<(Name, Arc<S>)>,
    /// What becomes of a request if the store does not answer in time.
    pub on_failure: OnFailure,
}

impl<S> Terms<S> {
    /// Compiles them, if nothing has been found to be wrong so far.
    ///
    /// # Errors
    /// What has been found, and what is wrong here.
    pub fn compile(
        config: TermsConfig<'_>,
        asked: impl FnOnce(&Store) -> S,
        env: &CompileEnv<'_>,
        mut found: Vec<Finding>,
    ) -> Result<Self, Vec<Finding>> {
        let key = Key::compile(config.key, &env.scope).map_err(|wrong| {
            let at = ConfigPath::root().key("key");
            found.extend(wrong.into_iter().map(|finding| finding.under(&at)));
        });
        let cost = Cost::compile(config.cost, &env.scope).map_err(|wrong| found.push(wrong));
        let shared = config.shared.and_then(|name| match env.stores.get(name) {
            Ok(store) => Some((name.clone(), Arc::new(asked(store)))),
            Err(problem) => {
                found.extend(problem.map(|problem| at("shared", problem)));
                None
            }
        });
        let (true, Ok(key), Ok(cost)) = (found.is_empty(), key, cost) else { return Err(found) };
        let name: Box<str> = config.name.map_or_else(|| key.as_str(), Name::as_str).into();
        let place = env.place.borrow();
        let id = format!("{place}/{name}/{}", key.as_str()).into();
        let metrics = match &env.metrics {
            Some(metrics) => metrics.limit(&place.to_string(), &name),
            None => Arc::new(LimitMetrics::unseen()),
        };
        let TermsConfig { shadow, fields, on_failure, .. } = config;
        Ok(Self { name, key, id, cost, shadow, fields, metrics, shared, on_failure })
    }

    /// True if key or cost are known once the caller is.
    pub fn need_caller(&self) -> bool {
        self.key.needs_caller() || self.cost.needs_caller()
    }

    /// What is left to say of it, for who explains it: `, by client_ip, together in `main`, only counted`.
    pub fn explain(&self, text: &mut String) {
        if *self.name != *self.key.as_str() {
            text.push_str(&format!(", by {}", self.key.as_str()));
        }
        if let Some((store, _)) = &self.shared {
            text.push_str(&format!(", together in `{store}`"));
        }
        if self.shadow {
            text.push_str(", only counted");
        }
    }
}

/// A request that costs more than there can ever be.
pub fn too_dear(cost: &CostConfig, most: u64, raise: &str) -> Option<Finding> {
    let CostConfig::Units(units) = cost else { return None };
    let problem = Problem::new(format!("a request costs {units}, and there are {most} at most"))
        .remedy(format!("raise `{raise}`, or lower `cost`"));
    (u64::from(*units) > most).then(|| at("cost", problem))
}

/// What is wrong with stores of which each would have to decide with another.
pub fn several_stores<'t, S: 't>(
    mut terms: impl Iterator<Item = &'t Terms<S>>,
    several: &str,
) -> Option<Finding> {
    let first = terms.find_map(|terms| terms.shared.as_ref())?.0.clone();
    let (other, _) = terms.filter_map(|terms| terms.shared.as_ref()).find(|(other, _)| *other != first)?;
    let problem = Problem::new(format!(
        "{several} in the stores `{first}` and `{other}`, which cannot decide together"
    ))
    .remedy("name one store for all of them");
    Some(Finding::error(ConfigPath::root(), problem))
}
