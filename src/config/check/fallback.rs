//! What a route does when its upstream fails.

use super::ranges::number;
use super::upstreams::conditions;
use super::{Findings, Unread, section};
use crate::config::Config;
use crate::config::model::fallback::{Fallback, Step};
use crate::config::model::route::{Route, Target};
use crate::values::{ConfigPath, Name, Problem};
use std::collections::{HashMap, HashSet};

/// What is tried at most.
const MOST: usize = 8;

pub(super) fn check<'c>(
    (config, unread): (&Config, &Unread),
    (name, route): (&Name, &'c Route),
    used: &mut HashSet<&'c Name>,
    findings: &mut Findings,
) {
    let Some(fallback) = &route.fallback else { return };
    let path = section("routes").key(name).key("fallback");
    conditions(&fallback.on, &path.key("on"), findings);
    if matches!(route.to, Target::Respond(_) | Target::Redirect(_) | Target::Echo(_)) {
        let problem = Problem::new("the gateway answers here itself: no upstream can fail")
            .remedy("take `fallback` away");
        findings.warning(path.clone(), problem);
    }
    if fallback.on.is_empty() {
        let problem = Problem::new("it is for no failure").remedy("write `on: [connect, timeout, 503]`");
        findings.error(path.key("on"), problem);
    }
    let to = path.key("to");
    if fallback.to.is_empty() || fallback.to.len() > MOST {
        let problem = Problem::new(format!("there are {} things to try", fallback.to.len()))
            .remedy(format!("write one to {MOST}, such as `{{ upstream: standby }}`"));
        findings.error(to.clone(), problem);
    }
    let mut seen: HashMap<&Name, ConfigPath> = HashMap::new();
    if let Target::Upstream(first) = &route.to {
        seen.insert(first, section("routes").key(name).key("to").key("upstream"));
    }
    let mut stale = None;
    for (index, step) in fallback.to.iter().enumerate() {
        let at = to.index(index);
        match step {
            Step::Upstream(upstream) => {
                let at = at.key("upstream");
                used.insert(upstream);
                if !config.upstreams.contains_key(upstream) && !unread.covers("upstreams", upstream.as_str())
                {
                    let known = config.upstreams.keys().map(Name::as_str);
                    findings.error(at.clone(), Problem::unknown("upstream", upstream.as_str(), known));
                }
                if let Some(first) = seen.insert(upstream, at.clone()) {
                    let problem = Problem::new(format!("the upstream `{upstream}` has failed by then"))
                        .remedy("name another one; `retry` asks the same one again");
                    findings.twice(at, first, problem);
                }
            }
            Step::Stale(_) => {
                if let Some(first) = stale.replace(at.clone()) {
                    let problem = Problem::new("what is kept is looked at once")
                        .remedy("leave the one with the longest `max_age`");
                    findings.twice(at, first, problem);
                }
            }
            Step::Respond(respond) => {
                number(respond.status.into(), (200, 599), &at.key("respond"), "status", findings);
            }
        }
    }
    never_tried(fallback, &to, findings);
}

/// What comes after an answer.
fn never_tried(fallback: &Fallback, to: &ConfigPath, findings: &mut Findings) {
    let answer = fallback.to.iter().position(|step| matches!(step, Step::Respond(_)));
    if let Some(next) = answer.map(|at| at + 1).filter(|next| *next < fallback.to.len()) {
        let problem = Problem::new("this is never tried: there is an answer before it")
            .remedy("put it before the `respond`, or take it away");
        findings.warning(to.index(next), problem);
    }
}
