//! One thing that is asked of a caller.

use super::config::{RoleConfig, Wanted};
use crate::identity::Pointer;
use crate::identity::{Principal, Role, Roles};
use crate::message::method::{Method, MethodSet};
use crate::policy::context::PolicyContext;
use crate::policy::shared::cel::{Condition, Facts};
use crate::values::{ConfigPath, Finding, Name, Problem};
use pingora_http::RequestHeader;
use std::fmt;
use std::sync::Arc;

/// Nobody is known, and somebody is asked for.
pub(super) const ANONYMOUS: &str = "anonymous";
/// A scope is missing.
pub(super) const SCOPE: &str = "scope_missing";
const GROUP: &str = "group_missing";
const ROLE: &str = "role_missing";
const PERMISSION: &str = "permission_missing";
const NOT_PERMITTED: &str = "request_not_permitted";
const CONDITION: &str = "condition_false";
const CONDITION_FAULT: &str = "condition_error";

/// Something that a caller must have, or that must hold of the request.
#[derive(Debug)]
pub(super) enum Need {
    /// All, or one, of these scopes.
    Scopes { names: Box<[Box<str>]>, all: bool },
    /// One of these groups.
    Groups(Box<[Box<str>]>),
    /// One of these roles.
    Roles(Box<[RoleNeed]>),
    /// All, or one, of these permissions.
    Permissions { permissions: Box<[Permission]>, all: bool },
    /// One of these roles, of those that permit requests, and it permits this one.
    Request(Box<[Arc<Role>]>),
    /// This.
    Condition(Condition),
}

#[derive(Debug)]
pub(super) struct RoleNeed {
    role: Arc<Role>,
    methods: Option<MethodSet>,
}

/// A permission with the roles that give it.
#[derive(Debug)]
pub(super) struct Permission {
    name: Box<str>,
    roles: Box<[Arc<Role>]>,
}

impl RoleNeed {
    pub(super) fn role(&self) -> &Role {
        &self.role
    }
}

impl Permission {
    pub(super) fn roles(&self) -> &[Arc<Role>] {
        &self.roles
    }
}

/// Where claims name groups and roles.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) groups: Option<Pointer>,
    pub(super) roles: Option<Pointer>,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// A stable word, one of those above.
    pub(super) cause: &'static str,
    /// What is missing, for the log alone.
    pub(super) detail: String,
}

impl Denial {
    fn new(cause: &'static str, detail: impl fmt::Display) -> Self {
        Self { cause, detail: detail.to_string() }
    }
}

impl Claims {
    fn groups<'c>(&self, caller: &'c Principal) -> impl Iterator<Item = &'c str> + use<'c> {
        self.groups.as_ref().map(|pointer| pointer.texts(&caller.claims)).into_iter().flatten()
    }

    fn roles<'c>(&self, caller: &'c Principal) -> impl Iterator<Item = &'c str> + use<'c> {
        self.roles.as_ref().map(|pointer| pointer.texts(&caller.claims)).into_iter().flatten()
    }

    fn holds(&self, caller: &Principal, role: &Role) -> bool {
        role.is_held_by(caller, self.groups(caller), self.roles(caller))
    }
}

impl Need {
    /// Whether it is met.
    pub(super) fn check(
        &self,
        head: &RequestHeader,
        cx: &PolicyContext,
        claims: &Claims,
    ) -> Result<(), Denial> {
        if let Self::Condition(condition) = self {
            return hold(condition, head, cx);
        }
        let Some(caller) = cx.principal.as_deref() else {
            return Err(Denial::new(ANONYMOUS, format_args!("asked for {self}")));
        };
        let (met, cause) = match self {
            Self::Scopes { names, all } => {
                let has = |name: &str| caller.scopes.iter().any(|own| **own == *name);
                let mut names = names.iter().map(AsRef::as_ref);
                (if *all { names.all(has) } else { names.any(has) }, SCOPE)
            }
            Self::Groups(names) => {
                let own = caller.consumer.as_deref().map_or(&[][..], |consumer| &consumer.groups);
                let met = own.iter().any(|group| names.contains(group))
                    || claims.groups(caller).any(|group| names.iter().any(|name| **name == *group));
                (met, GROUP)
            }
            Self::Roles(needs) => {
                let method = Method::new(head.method.as_str());
                let fits =
                    |need: &RoleNeed| need.methods.as_ref().is_none_or(|methods| methods.contains(method));
                (needs.iter().any(|need| fits(need) && claims.holds(caller, &need.role)), ROLE)
            }
            Self::Permissions { permissions, all } => {
                let given = |one: &Permission| one.roles.iter().any(|role| claims.holds(caller, role));
                (if *all { permissions.iter().all(given) } else { permissions.iter().any(given) }, PERMISSION)
            }
            Self::Request(roles) => {
                let (method, path) = (head.method.as_str(), cx.path(head));
                let permits =
                    |role: &Arc<Role>| role.permits_request(method, path) && claims.holds(caller, role);
                (roles.iter().any(permits), NOT_PERMITTED)
            }
            Self::Condition(_) => (true, CONDITION),
        };
        if met { Ok(()) } else { Err(Denial::new(cause, self)) }
    }

    pub(super) fn scopes(wanted: &Wanted) -> Self {
        let names = wanted.names().iter().map(|name| name.as_str().into()).collect();
        Self::Scopes { names, all: matches!(wanted, Wanted::All(_)) }
    }

    pub(super) fn roles(wanted: &[RoleConfig], known: &Roles, found: &mut Vec<Finding>) -> Self {
        let mut needs = Vec::new();
        for (at, config) in wanted.iter().enumerate() {
            let path = ConfigPath::root().key("roles").index(at);
            let mut methods = MethodSet::default();
            for (index, method) in config.methods.iter().flatten().enumerate() {
                if let Err(problem) = methods.add(method) {
                    found.push(Finding::error(path.key(&config.name).index(index), problem));
                }
            }
            if config.methods.as_ref().is_some_and(Vec::is_empty) {
                let problem = Problem::new("there are no methods: the role would be enough for nothing")
                    .remedy("name methods, or the role alone for all");
                found.push(Finding::error(path.key(&config.name), problem));
            }
            match known.get(config.name.as_str()) {
                Some(role) => needs.push(RoleNeed {
                    role: Arc::clone(role),
                    methods: config.methods.is_some().then_some(methods),
                }),
                None => {
                    let names = known.iter().map(|role| role.name().as_str());
                    found.push(Finding::error(path, Problem::unknown("role", config.name.as_str(), names)));
                }
            }
        }
        Self::Roles(needs.into())
    }

    pub(super) fn permissions(wanted: &Wanted, known: &Roles, found: &mut Vec<Finding>) -> Self {
        let mut permissions = Vec::new();
        for (at, name) in wanted.names().iter().enumerate() {
            let roles: Box<[Arc<Role>]> = known.that_permit(name).cloned().collect();
            if roles.is_empty() {
                let path = ConfigPath::root().key("permissions");
                let path = match wanted {
                    Wanted::All(_) => path.index(at),
                    Wanted::Any(_) => path.key("any").index(at),
                };
                found.push(Finding::error(path, Problem::unknown("permission", name, known.permissions())));
            }
            permissions.push(Permission { name: name.as_str().into(), roles });
        }
        Self::Permissions { permissions: permissions.into(), all: matches!(wanted, Wanted::All(_)) }
    }

    /// The roles that matter to it.
    pub(super) fn asked_roles(&self) -> Vec<&Name> {
        match self {
            Self::Roles(needs) => needs.iter().map(|need| need.role.name()).collect(),
            Self::Permissions { permissions, .. } => {
                permissions.iter().flat_map(|one| one.roles.iter().map(|role| role.name())).collect()
            }
            Self::Request(roles) => roles.iter().map(|role| role.name()).collect(),
            Self::Scopes { .. } | Self::Groups(_) | Self::Condition(_) => Vec::new(),
        }
    }
}

fn hold(condition: &Condition, head: &RequestHeader, cx: &PolicyContext) -> Result<(), Denial> {
    let facts = Facts::new(head, cx);
    match condition.holds(&facts) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Denial::new(CONDITION, format_args!("that {}", condition.as_str()))),
        Err(fault) if fault.name.is_empty() => Err(Denial::new(CONDITION_FAULT, fault.what)),
        Err(fault) => Err(Denial::new(CONDITION_FAULT, format_args!("{} {}", fault.name, fault.what))),
    }
}

/// As the log and `tollgate explain` name it.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<String>| names.join(", ");
        let words = |all: bool| if all { "all" } else { "one" };
        match self {
            Self::Scopes { names, all } => {
                write!(
                    f,
                    "{} of the scopes {}",
                    words(*all),
                    list(names.iter().map(ToString::to_string).collect())
                )
            }
            Self::Groups(names) => {
                write!(f, "one of the groups {}", list(names.iter().map(ToString::to_string).collect()))
            }
            Self::Roles(needs) => {
                let shown = |need: &RoleNeed| match &need.methods {
                    None => need.role.name().to_string(),
                    Some(methods) => format!("{} ({methods})", need.role.name()),
                };
                write!(f, "one of the roles {}", list(needs.iter().map(shown).collect()))
            }
            Self::Permissions { permissions, all } => {
                let names = permissions.iter().map(|one| one.name.to_string()).collect();
                write!(f, "{} of the permissions {}", words(*all), list(names))
            }
            Self::Request(_) => f.write_str("a role that permits this method and path"),
            Self::Condition(condition) => write!(f, "that {}", condition.as_str()),
        }
    }
}
