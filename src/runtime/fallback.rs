//! What a route does when its upstream fails, compiled.

use super::snapshot::Chains;
use crate::compose::Respond;
use crate::config::model::fallback as model;
use crate::config::model::upstream::Condition;
use crate::policy::shared::template::Scope;
use crate::values::{ConfigPath, Finding, Name, Problem};
use std::time::Duration;

/// What a route does when its upstream fails.
#[derive(Debug)]
pub struct Fallback {
    on: Box<[Condition]>,
    steps: Box<[Step]>,
}

/// One thing to try.
#[derive(Debug)]
pub enum Step {
    /// What is kept, so long after it was fresh.
    Stale(Duration),
    /// This upstream.
    Upstream(usize),
    /// An answer of the gateway's own.
    Respond(Respond),
}

impl Fallback {
    /// Makes of the text, which stands at this path, what is done; `upstream` finds an upstream, or says itself that
    /// there is none.
    ///
    /// # Errors
    /// What is wrong with its answers.
    pub(super) fn compile(
        config: &model::Fallback,
        path: &ConfigPath,
        scope: &Scope<'_>,
        mut upstream: impl FnMut(&Name, &ConfigPath) -> Option<usize>,
    ) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let mut steps = Vec::with_capacity(config.to.len());
        for (index, step) in config.to.iter().enumerate() {
            let path = path.key("to").index(index);
            match step {
                model::Step::Stale(stale) => steps.push(Step::Stale(stale.max_age.get())),
                model::Step::Upstream(name) => {
                    steps.extend(upstream(name, &path.key("upstream")).map(Step::Upstream));
                }
                model::Step::Respond(respond) => match Respond::compile(respond, scope) {
                    Ok(respond) => steps.push(Step::Respond(respond)),
                    Err(wrong) => {
                        let at = path.key("respond");
                        found.extend(wrong.into_iter().map(|finding| finding.under(&at)));
                    }
                },
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        Ok(Self { on: config.on.as_slice().into(), steps: steps.into() })
    }

    /// True if what the cache keeps may stand in.
    pub fn has_stale(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Stale(_)))
    }

    /// What it is for.
    pub fn on(&self) -> &[Condition] {
        &self.on
    }

    /// True if it is for this failure.
    pub fn is_for(&self, failure: Condition) -> bool {
        self.on.contains(&failure)
    }

    /// The same for what failed last, if anything did.
    pub fn is_for_any(&self, failure: Option<Condition>) -> bool {
        failure.is_some_and(|failure| self.is_for(failure))
    }

    /// What is tried after so many that were.
    pub fn steps(&self, gone: usize) -> &[Step] {
        self.steps.get(gone..).unwrap_or_default()
    }
}

/// A route that keeps nothing has nothing that is stale.
pub(super) fn stale_without_a_cache(
    name: &Name,
    config: &model::Fallback,
    chains: &Chains,
) -> Option<Finding> {
    let at = config.to.iter().position(|step| matches!(step, model::Step::Stale(_)))?;
    let mut all = chains.by_listener.iter().map(|(_, chain)| chain).chain([&chains.plain]);
    if all.any(|chain| chain.cache().is_some()) {
        return None;
    }
    let path = ConfigPath::root().key("routes").key(name).key("fallback").key("to").index(at).key("stale");
    let problem = Problem::new("this route keeps no answers that could be stale")
        .remedy("give it the policy `cache`, or take the step away");
    Some(Finding::error(path, problem))
}
