//! Whether anybody at all can have what is asked for.

use super::Authorize;
use super::need::{Need, Permission};
use crate::identity::Role;
use crate::values::Problem;
use std::collections::BTreeSet;

/// Who there may be behind a chain.
#[derive(Debug)]
pub struct Callers<'a> {
    /// The groups of all consumers.
    pub groups: &'a BTreeSet<&'a str>,
    /// Whether anything asks who calls.
    pub known: bool,
    /// Whether it may say more of a caller than the configuration does: claims, scopes.
    pub claims: bool,
}

impl Authorize {
    /// What nobody can have, by its key.
    pub fn out_of_reach(&self, callers: &Callers<'_>) -> Vec<(&'static str, Problem)> {
        self.needs.iter().filter_map(|need| missing(need, callers)).collect()
    }
}

fn missing(need: &Need, callers: &Callers<'_>) -> Option<(&'static str, Problem)> {
    let key = match need {
        Need::Scopes { .. } => "scopes",
        Need::Groups(_) => "groups",
        Need::Roles(_) => "roles",
        Need::Permissions { .. } => "permissions",
        Need::Request(_) => "rbac",
        Need::Condition(_) => return None,
    };
    if !callers.known {
        let problem = Problem::new(format!("nobody can have {need}: nothing asks who calls"))
            .remedy("add `authenticate`, or take this out");
        return Some((key, problem));
    }
    if callers.claims {
        return None;
    }
    let held = |role: &Role| {
        role.groups().any(|group| callers.groups.contains(group)) || role.consumers().next().is_some()
    };
    let (reachable, remedy) = match need {
        Need::Scopes { .. } => (false, "authenticate by something that has scopes, such as tokens"),
        Need::Groups(names) => (
            names.iter().any(|group| callers.groups.contains(&**group)),
            "put a consumer into one of the groups",
        ),
        Need::Roles(needs) => (needs.iter().any(|need| held(need.role())), HOLD),
        Need::Permissions { permissions, all } => {
            let given = |one: &Permission| one.roles().iter().any(|role| held(role));
            let met = if *all { permissions.iter().all(given) } else { permissions.iter().any(given) };
            (met, HOLD)
        }
        Need::Request(roles) => (roles.iter().any(|role| held(role)), HOLD),
        Need::Condition(_) => (true, ""),
    };
    (!reachable).then(|| (key, Problem::new(format!("nobody can have {need}")).remedy(remedy)))
}

const HOLD: &str = "give the role a group that consumers are in, or a consumer";
