//! Who gets where: what nobody can pass, roles that nothing asks for, routes that ask for no caller; and
//! limits that limit nobody, or otherwise than it seems.

use super::snapshot::{Listener, Route, Snapshot};
use crate::config::Config;
use crate::identity::Identity;
use crate::policy::authenticate::Authenticate;
use crate::policy::authorize::Callers;
use crate::policy::chain::Chain;
use crate::values::{ConfigPath, Finding, Name, Problem};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// What is neither right nor wrong, and worth a list: how routes treat callers that nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openness {
    /// How many routes there are.
    pub routes: usize,
    /// Those that nothing asks who calls, by some listener at least.
    pub unauthenticated: Vec<Name>,
    /// Those that let in callers whom nobody knows.
    pub optional: Vec<Name>,
}

/// What is worth a warning.
pub(super) fn findings(config: &Config, identity: &Identity, chains: &[Arc<Chain>]) -> Vec<Finding> {
    let groups = identity.consumers().groups();
    let mut found = Vec::new();
    let mut asked: BTreeSet<&Name> = BTreeSet::new();
    for chain in chains {
        let callers = Callers {
            groups: &groups,
            known: chain.authentications().next().is_some(),
            claims: chain.authentications().any(Authenticate::has_claims),
        };
        found.extend(limits(chain, callers.known));
        found.extend(caching(chain, callers.known));
        for (origin, authorize) in chain.authorizations() {
            asked.extend(authorize.asked_roles());
            let missing = authorize.out_of_reach(&callers).into_iter();
            found.extend(missing.map(|(key, problem)| Finding::warning(origin.path.key(key), problem)));
        }
    }
    found.extend(plans(config, identity, chains));
    let mut used: BTreeSet<&Name> = BTreeSet::new();
    let mut next: Vec<&Name> = asked.into_iter().collect();
    while let Some(name) = next.pop() {
        if used.insert(name) {
            next.extend(config.roles.get(name).into_iter().flat_map(|role| &role.includes));
        }
    }
    for name in config.roles.keys().filter(|name| !used.contains(name)) {
        let problem = Problem::new(format!("nothing asks for the role `{name}`"))
            .remedy("name it in an `authorize`, or take it away");
        found.push(Finding::warning(ConfigPath::root().key("roles").key(name), problem));
    }
    found
}

/// Ways to authenticate by client certificates that nobody can take: no listener asks for one.
pub(super) fn certificates(
    config: &Config,
    routes: &[Route],
    listeners: &[Option<Listener>],
) -> Vec<Finding> {
    let mut wanted: BTreeMap<&ConfigPath, bool> = BTreeMap::new();
    for (listener, chain) in routes.iter().flat_map(|route| met(config, route, listeners)) {
        let asks = listener.config.tls.as_ref().is_some_and(|tls| tls.client.is_some());
        for origin in chain.certificates_wanted() {
            *wanted.entry(&origin.path).or_default() |= asks;
        }
    }
    let unmet = wanted.into_iter().filter(|(_, asked)| !asked);
    unmet
        .map(|(path, _)| {
            let problem = Problem::new("no listener here asks clients for the certificates that this wants")
                .remedy("give a listener `tls: { client: { ca: clients.pem } }`");
            Finding::warning(path.clone(), problem)
        })
        .collect()
}

/// A cache behind `authenticate` whose key does not tell callers apart: what the upstream marks as public
/// goes to all of them.
fn caching(chain: &Chain, asks_who_calls: bool) -> Option<Finding> {
    let (origin, cache) = chain.cache_origin().filter(|_| asks_who_calls)?;
    if cache.settings.by_caller {
        return None;
    }
    let problem = Problem::new(
        "callers of one tenant get each other's answers where the upstream says `public`, `s-maxage` or \
         `must-revalidate`",
    )
    .remedy("add `key: { caller: true }`, or `authenticate: off` where answers are everybody's");
    Some(Finding::warning(origin.path.clone(), problem))
}

fn limits(chain: &Chain, asks_who_calls: bool) -> impl Iterator<Item = Finding> {
    let rates = chain.rate_limits().map(|(origin, limit)| {
        (origin, limit.name(), limit.key(), limit.needs_caller(), limit.is_for_plans_alone())
    });
    let bounds = chain.bounds().map(|(origin, bound)| {
        (origin, bound.name(), bound.key(), bound.needs_caller(), bound.is_for_plans_alone())
    });
    let quotas = chain.quotas().map(|(origin, quota)| {
        (origin, quota.name(), quota.key(), quota.needs_caller(), quota.is_for_plans_alone())
    });
    rates.chain(quotas).chain(bounds).filter_map(move |(origin, name, key, needs_caller, for_plans_alone)| {
        let problem = if for_plans_alone && !asks_who_calls {
            Problem::new(format!(
                "the limit `{name}` limits nobody: it goes by plans, and nothing asks who calls"
            ))
            .remedy("add `authenticate` where it is in force, or a number for callers without a plan")
        } else if needs_caller && !asks_who_calls {
            Problem::new(format!("all requests count together at the limit `{name}`: nothing asks who calls"))
                .remedy("add `authenticate` where it is in force, or another `key` such as `client_ip`")
        } else if key.is_chosen_by_client() {
            Problem::new(format!(
                "clients can evade the limit `{name}`: they choose what it tells them apart by"
            ))
            .remedy("add a limit by `client_ip`, or take it into the `key`")
        } else {
            return None;
        };
        Some(Finding::warning(origin.path.clone(), problem))
    })
}

/// Plans that nobody has, and rates of plans that nothing goes by.
fn plans(config: &Config, identity: &Identity, chains: &[Arc<Chain>]) -> Vec<Finding> {
    let had: HashSet<&str> = identity.consumers().plans().collect();
    let by_rate = chains.iter().flat_map(|chain| chain.rate_limits()).any(|(_, limit)| limit.goes_by_plans());
    let by_quota = chains.iter().flat_map(|chain| chain.quotas()).any(|(_, quota)| quota.goes_by_plans());
    let by_bound = chains.iter().flat_map(|chain| chain.bounds()).any(|(_, bound)| bound.goes_by_plans());
    let mut found = Vec::new();
    for (name, plan) in &config.plans {
        let path = ConfigPath::root().key("plans").key(name);
        if !had.contains(name.as_str()) {
            let problem = Problem::new(format!("no consumer has the plan `{name}`"))
                .remedy("give it to a consumer, or take it away");
            found.push(Finding::warning(path, problem));
            continue;
        }
        for (field, is_idle, policy) in [
            ("rate", plan.rate.is_some() && !by_rate, "rate_limit"),
            ("quota", plan.quota.is_some() && !by_quota, "quota"),
            ("concurrency", plan.concurrency.is_some() && !by_bound, "concurrency"),
        ] {
            if is_idle {
                let problem = Problem::new(format!("no limit goes by the {field} of the plan `{name}`"))
                    .remedy(format!(
                        "add `{policy}: {{ key: consumer, plan: true }}` to a route or to the defaults"
                    ));
                found.push(Finding::warning(path.key(field), problem));
            }
        }
    }
    found
}

/// Every chain that requests meet, once.
pub(super) fn chains(config: &Config, routes: &[Route], listeners: &[Option<Listener>]) -> Vec<Arc<Chain>> {
    let mut seen = HashSet::new();
    let met = routes.iter().flat_map(|route| met(config, route, listeners)).map(|(_, chain)| chain);
    met.filter(|chain| seen.insert(Arc::as_ptr(chain))).map(Arc::clone).collect()
}

/// The chains of one route, with the listeners that they are met by.
fn met<'r>(
    config: &'r Config,
    route: &'r Route,
    listeners: &'r [Option<Listener>],
) -> impl Iterator<Item = (&'r Listener, &'r Arc<Chain>)> {
    let on = config.routes.get(&route.name).map_or(&[][..], |config| &config.on);
    let is_met = move |listener: &&Listener| on.is_empty() || on.contains(&listener.name);
    listeners.iter().flatten().filter(is_met).map(|listener| (listener, route.chains.on(listener.id)))
}

impl Snapshot {
    /// How its routes treat callers that nobody knows.
    pub fn openness(&self) -> Openness {
        let mut openness = Openness { routes: self.routes.len(), ..Openness::default() };
        for route in &self.routes {
            let chains = || met(&self.config, route, &self.listeners).map(|(_, chain)| chain);
            if chains().any(|chain| chain.authentications().next().is_none()) {
                openness.unauthenticated.push(route.name.clone());
            } else if chains().any(|chain| chain.authentications().all(Authenticate::is_optional)) {
                openness.optional.push(route.name.clone());
            }
        }
        openness
    }
}
