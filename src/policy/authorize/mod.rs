//! What callers may do: by scopes, groups, roles, permissions, and a condition in CEL.
//!
//! ```yaml
//! authorize: { scopes: [orders:read], groups: [staff], when: 'principal.claims.tier == "gold"' }
//! ```
//!
//! Everything that is given has to hold. A client learns that it may not; the log learns why.

mod config;
mod need;
mod reach;

#[cfg(test)]
mod tests;

pub use config::{AuthorizeConfig, ClaimsConfig, RoleConfig, Wanted};
pub use reach::Callers;

use super::context::PolicyContext;
use super::shared::cel::Condition;
use super::{CompileEnv, Policy, Step, at};
use crate::identity::Pointer;
use crate::identity::{Identity, Method, Role};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding, Name, Problem};
use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use need::{Claims, Denial, Need};
use pingora_http::RequestHeader;
use std::sync::Arc;

/// The caller may not do this.
pub const FORBIDDEN: &str = "forbidden";

/// [`AuthorizeConfig`], compiled.
#[derive(Debug)]
pub struct Authorize {
    needs: Box<[Need]>,
    claims: Claims,
    /// Counts who is not let in.
    identity: Arc<Identity>,
    /// What a caller is told whom nobody knows, and who might do better with a credential.
    unknown: Option<Box<Rejection>>,
}

/// What became of one thing that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was asked for, in words.
    pub what: String,
    /// Why it is not met, if it is not: a cause and what is missing.
    pub denied: Option<(&'static str, String)>,
}

impl Policy for Authorize {
    const NAME: &'static str = "authorize";
    type Config = AuthorizeConfig;

    fn compile(config: &AuthorizeConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let roles = env.identity.roles();
        let mut needs = Vec::new();
        if let Some(scopes) = &config.scopes {
            refuse_empty("scopes", scopes.names(), &mut found);
            needs.push(Need::scopes(scopes));
        }
        if !config.groups.is_empty() {
            needs.push(Need::Groups(config.groups.iter().map(|group| group.as_str().into()).collect()));
        }
        if !config.roles.is_empty() {
            needs.push(Need::roles(&config.roles, roles, &mut found));
        }
        if let Some(permissions) = &config.permissions {
            refuse_empty("permissions", permissions.names(), &mut found);
            needs.push(Need::permissions(permissions, roles, &mut found));
        }
        if config.rbac {
            let permitting: Box<[Arc<Role>]> =
                roles.iter().filter(|role| role.has_requests()).cloned().collect();
            if permitting.is_empty() {
                let problem = Problem::new("no role permits requests: nobody would be let in")
                    .remedy("give a role `permissions: [{ methods: [GET], path: /orders/* }]`");
                found.push(at("rbac", problem));
            }
            needs.push(Need::Request(permitting));
        }
        // Last: the dearest, and the one whose errors deny.
        if let Some(when) = &config.when {
            match Condition::compile(when, &env.scope) {
                Ok(condition) => needs.push(Need::Condition(condition)),
                Err(problem) => found.push(at("when", problem)),
            }
        }
        let claims = compile_claims(&config.claims, &mut found);
        if needs.is_empty() && found.is_empty() {
            let problem = Problem::new("nothing is asked for").remedy(
                "name `scopes`, `groups`, `roles`, `permissions`, `rbac` or `when`, or take it out with `authorize: off`",
            );
            found.push(Finding::error(ConfigPath::root(), problem));
        }
        if found.is_empty() {
            Ok(Self { needs: needs.into(), claims, identity: Arc::clone(&env.identity), unknown: None })
        } else {
            Err(found)
        }
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        match self.needs.iter().try_for_each(|need| need.check(head, cx, &self.claims)) {
            Ok(()) => Step::Continue,
            Err(denial) => {
                self.identity.denied(denial.cause);
                self.deny(&denial, cx)
            }
        }
    }
}

impl Authorize {
    /// How to refuse a caller whom nobody knows: 401 with the challenges of what asked who calls.
    pub fn refuse_unknown_with(&mut self, rejection: Rejection) {
        self.unknown = Some(Box::new(rejection));
    }

    fn deny<'a>(&self, denial: &Denial, cx: &mut PolicyContext) -> Step<'a> {
        cx.auth_cause = Some(denial.cause);
        let rejection = match &self.unknown {
            Some(unknown) if cx.principal.is_none() => (**unknown).clone(),
            _ => forbidden(denial, cx),
        };
        Step::reject(rejection.detail(format!("{}: {}", denial.cause, denial.detail)))
    }

    /// What is asked for, one by one, and whether this request has it.
    pub fn explain(&self, head: &RequestHeader, cx: &PolicyContext) -> Vec<Asked> {
        let asked = |need: &Need| {
            let denied = need.check(head, cx, &self.claims).err().map(|denial| (denial.cause, denial.detail));
            Asked { what: need.to_string(), denied }
        };
        self.needs.iter().map(asked).collect()
    }

    /// The roles that it asks for, by name, by permission, or by request.
    pub fn asked_roles(&self) -> impl Iterator<Item = &Name> {
        self.needs.iter().flat_map(Need::asked_roles)
    }
}

fn forbidden(denial: &Denial, cx: &PolicyContext) -> Rejection {
    let rejection = Rejection::new(StatusCode::FORBIDDEN, FORBIDDEN, "You may not do this");
    // RFC 6750 section 3.1. Which scopes is for the log alone.
    let by_token = |method: Method| matches!(method, Method::Jwt | Method::Introspection);
    if denial.cause == need::SCOPE && cx.principal.as_ref().is_some_and(|caller| by_token(caller.method)) {
        let challenge = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
        return rejection.header(WWW_AUTHENTICATE, challenge);
    }
    rejection
}

fn refuse_empty(key: &str, names: &[String], found: &mut Vec<Finding>) {
    if names.is_empty() {
        let problem = Problem::new("the list is empty: nothing would be asked for")
            .remedy(format!("name what is needed, or take `{key}` out"));
        found.push(at(key, problem));
    }
}

fn compile_claims(config: &ClaimsConfig, found: &mut Vec<Finding>) -> Claims {
    let mut pointer = |key: &str, text: &Option<String>| match text.as_deref().map(Pointer::parse)? {
        Ok(pointer) => Some(pointer),
        Err(problem) => {
            found.push(Finding::error(ConfigPath::root().key("claims").key(key), problem));
            None
        }
    };
    Claims { groups: pointer("groups", &config.groups), roles: pointer("roles", &config.roles) }
}
