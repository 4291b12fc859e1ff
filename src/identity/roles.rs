//! Roles: who holds them, and what they permit.

use super::{Consumer, Consumers, Principal};
use crate::message::method::{Method, MethodSet};
use crate::message::pattern::PathMatcher;
use crate::values::{ConfigPath, Finding, Name, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Roles by name: what the policy `authorize` asks for.
pub type RolesConfig = BTreeMap<Name, Arc<RoleConfig>>;

/// A role: what it permits, and who holds it. Whoever holds a role holds those that it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoleConfig {
    /// What it permits: names such as `orders:write`, or methods and paths. Default: nothing.
    pub permissions: Vec<PermissionConfig>,
    /// Roles that its holders hold as well. Default: none.
    pub includes: Vec<Name>,
    /// Groups whose members hold it. Default: none.
    pub groups: Vec<Name>,
    /// Consumers that hold it. Default: none.
    pub consumers: Vec<String>,
}

/// What a role permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermissionConfig {
    /// Something by name, such as `orders:write`.
    Named(String),
    /// Requests.
    Requests(RequestsConfig),
}

/// Requests by method and path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestsConfig {
    /// Methods; GET brings HEAD with it. Default: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// A path as in `match`: `/orders`, `/orders/{id}`, or `/orders/*` for all below as well.
    pub path: String,
}

impl<'de> Deserialize<'de> for PermissionConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PermissionConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name such as `orders:write`, or `{ methods: [GET], path: /orders/* }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PermissionConfig, E> {
                Ok(PermissionConfig::Named(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<PermissionConfig, A::Error> {
                let requests = RequestsConfig::deserialize(de::value::MapAccessDeserializer::new(map));
                requests.map(PermissionConfig::Requests)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for PermissionConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => serializer.serialize_str(name),
            Self::Requests(requests) => requests.serialize(serializer),
        }
    }
}

impl JsonSchema for PermissionConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Permission".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let requests = generator.subschema_for::<RequestsConfig>();
        schemars::json_schema!({
            "description": "A name such as `orders:write`, or methods and a path.",
            "anyOf": [{ "type": "string" }, requests],
        })
    }
}

/// The roles of a configuration, compiled.
#[derive(Debug, Default)]
pub struct Roles(BTreeMap<Name, Arc<Role>>);

/// A role, compiled.
#[derive(Debug)]
pub struct Role {
    name: Name,
    /// This role and all that include it, directly or not: whoever holds one of them holds this one.
    names: BTreeSet<Box<str>>,
    groups: BTreeSet<Box<str>>,
    consumers: BTreeSet<Box<str>>,
    /// What it permits by itself.
    permissions: BTreeSet<Box<str>>,
    requests: Box<[Requests]>,
}

#[derive(Debug)]
struct Requests {
    /// None is all.
    methods: Option<MethodSet>,
    path: PathMatcher,
}

impl Roles {
    /// Compiles the roles, and tells all that is wrong with them, with paths from the root.
    pub fn compile(config: &RolesConfig) -> (Self, Vec<Finding>) {
        let mut found = Vec::new();
        let includers = includers(config, &mut found);
        let mut roles = BTreeMap::new();
        for (name, role) in config {
            let path = ConfigPath::root().key("roles").key(name);
            let mut compiled = Role {
                name: name.clone(),
                names: BTreeSet::from([name.as_str().into()]),
                groups: BTreeSet::new(),
                consumers: BTreeSet::new(),
                permissions: BTreeSet::new(),
                requests: Box::default(),
            };
            compiled.permit(role, &path.key("permissions"), &mut found);
            for holder in std::iter::once(name).chain(includers.get(name).into_iter().flatten().copied()) {
                compiled.names.insert(holder.as_str().into());
                if let Some(holder) = config.get(holder) {
                    compiled.groups.extend(holder.groups.iter().map(|group| group.as_str().into()));
                    compiled.consumers.extend(holder.consumers.iter().map(|name| name.as_str().into()));
                }
            }
            roles.insert(name.clone(), Arc::new(compiled));
        }
        (Self(roles), found)
    }

    /// The role of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Role>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.0.values()
    }

    /// The roles that permit what has this name.
    pub fn that_permit<'r>(&'r self, permission: &'r str) -> impl Iterator<Item = &'r Arc<Role>> {
        self.iter().filter(move |role| role.permissions.contains(permission))
    }

    /// The names of all that is permitted by name.
    pub fn permissions(&self) -> BTreeSet<&str> {
        self.iter().flat_map(|role| role.permissions.iter().map(|name| &**name)).collect()
    }
}

impl Role {
    /// Its name.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// True if this caller holds it: by consumer, by group, or because its claims name it.
    /// `groups` and `roles` are those that the claims give.
    pub fn is_held_by<'c>(
        &self,
        caller: &'c Principal,
        mut groups: impl Iterator<Item = &'c str>,
        mut roles: impl Iterator<Item = &'c str>,
    ) -> bool {
        let by_consumer = |consumer: &Consumer| {
            self.consumers.contains(&*consumer.name)
                || consumer.groups.iter().any(|group| self.groups.contains(group))
        };
        caller.consumer.as_deref().is_some_and(by_consumer)
            || groups.any(|group| self.groups.contains(group))
            || roles.any(|role| self.names.contains(role))
    }

    /// True if it permits what has this name.
    pub fn permits(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }

    /// True if it permits requests with this method for this path, a normalised one.
    pub fn permits_request(&self, method: &str, path: &str) -> bool {
        let method = Method::new(method);
        self.requests.iter().any(|requests| {
            requests.methods.as_ref().is_none_or(|methods| methods.contains(method))
                && requests.path.matches(path)
        })
    }

    /// True if it permits requests at all.
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The groups whose members hold it.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| &**group)
    }

    /// The consumers that hold it by name.
    pub fn consumers(&self) -> impl Iterator<Item = &str> {
        self.consumers.iter().map(|consumer| &**consumer)
    }

    fn permit(&mut self, config: &RoleConfig, path: &ConfigPath, found: &mut Vec<Finding>) {
        let mut requests = Vec::new();
        for (at, permission) in config.permissions.iter().enumerate() {
            let compiled = match permission {
                PermissionConfig::Named(name) => permission_name(name).map(|name| {
                    self.permissions.insert(name.into());
                }),
                PermissionConfig::Requests(config) => compile_requests(config).map(|one| requests.push(one)),
            };
            if let Err(problem) = compiled {
                found.push(Finding::error(path.index(at), problem));
            }
        }
        self.requests = requests.into();
    }
}

/// Consumers that roles name and that are not there.
pub(super) fn unknown_consumers(config: &RolesConfig, consumers: &Consumers) -> Vec<Finding> {
    let named: BTreeSet<&str> =
        config.values().flat_map(|role| &role.consumers).map(String::as_str).collect();
    let known = consumers.which(&named);
    let mut found = Vec::new();
    for (name, role) in config {
        for (at, consumer) in role.consumers.iter().enumerate() {
            if !known.contains(consumer.as_str()) && !consumers.may_admit(consumer) {
                let path = ConfigPath::root().key("roles").key(name).key("consumers").index(at);
                let problem = Problem::new(format!("there is no consumer `{consumer}`"))
                    .remedy("define it under `consumers`, or take it out of the role");
                found.push(Finding::warning(path, problem));
            }
        }
    }
    found
}

/// By role, the other roles that include it, directly or through others.
fn includers<'c>(
    config: &'c RolesConfig,
    found: &mut Vec<Finding>,
) -> BTreeMap<&'c Name, BTreeSet<&'c Name>> {
    let mut includers: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    for (name, role) in config {
        for (at, included) in role.includes.iter().enumerate() {
            if !config.contains_key(included) {
                let known = config.keys().filter(|known| *known != name).map(Name::as_str);
                let path = ConfigPath::root().key("roles").key(name).key("includes").index(at);
                found.push(Finding::error(path, Problem::unknown("role", included.as_str(), known)));
            }
        }
        let mut reached: BTreeSet<&Name> = BTreeSet::new();
        let mut next: Vec<&Name> = role.includes.iter().collect();
        while let Some(included) = next.pop() {
            if reached.insert(included) {
                next.extend(config.get(included).into_iter().flat_map(|role| &role.includes));
            }
        }
        if reached.contains(name) {
            let path = ConfigPath::root().key("roles").key(name).key("includes");
            let problem = Problem::new(format!("the role `{name}` includes itself"))
                .remedy("take one of the roles on the way out of `includes`");
            found.push(Finding::error(path, problem));
        }
        for included in reached {
            includers.entry(included).or_default().insert(name);
        }
    }
    includers
}

/// 1 to 100 visible ASCII characters.
fn permission_name(name: &str) -> Result<&str, Problem> {
    if (1..=100).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_graphic()) && !name.starts_with('/')
    {
        return Ok(name);
    }
    let shown: String = name.chars().take(40).collect();
    let problem = Problem::new(format!("`{shown}` is not the name of a permission"));
    Err(if name.starts_with('/') {
        problem.remedy(format!("write `{{ path: {shown} }}` for requests"))
    } else {
        problem.remedy("a permission's name has 1 to 100 visible ASCII characters, such as `orders:write`")
    })
}

fn compile_requests(config: &RequestsConfig) -> Result<Requests, Problem> {
    let path = PathMatcher::new(&config.path)?;
    let mut methods = MethodSet::default();
    for method in &config.methods {
        methods.add(method)?;
    }
    Ok(Requests { methods: (!config.methods.is_empty()).then_some(methods), path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Method as Proof;

    fn roles(yaml: &str) -> (Roles, Vec<String>) {
        let config: RolesConfig = serde_saphyr::from_str(yaml).unwrap();
        let (roles, found) = Roles::compile(&config);
        (roles, found.iter().map(|one| format!("{}: {}", one.path, one.problem)).collect())
    }

    const ROLES: &str = "
reader: { permissions: [orders:read, { methods: [GET], path: /orders/* }], groups: [staff] }
writer: { permissions: [orders:write, { methods: [POST], path: '/orders/{id}' }], includes: [reader], consumers: [acme] }
admin: { permissions: [{ path: /* }], includes: [writer] }
";

    fn caller(consumer: &str, groups: &[&str]) -> Principal {
        let groups: Vec<Box<str>> = groups.iter().map(|group| (*group).into()).collect();
        let consumer = Consumer { groups: groups.into(), ..Consumer::named(consumer) };
        Principal::of(Proof::ApiKey, "key", Arc::new(consumer))
    }

    #[test]
    fn who_holds_a_role() {
        let (roles, found) = roles(ROLES);
        assert_eq!(found, Vec::<String>::new());
        let held = |caller: &Principal, groups: &[&'static str], names: &[&'static str]| -> Vec<String> {
            roles
                .iter()
                .filter(|role| role.is_held_by(caller, groups.iter().copied(), names.iter().copied()))
                .map(|role| role.name().to_string())
                .collect()
        };
        let anybody = caller("other", &[]);
        assert_eq!(held(&anybody, &[], &[]), Vec::<String>::new());
        assert_eq!(held(&caller("other", &["staff"]), &[], &[]), ["reader"]);
        assert_eq!(held(&caller("acme", &[]), &[], &[]), ["reader", "writer"]);
        assert_eq!(held(&anybody, &["staff"], &[]), ["reader"]);
        assert_eq!(held(&anybody, &[], &["admin"]), ["admin", "reader", "writer"]);
        assert_eq!(held(&anybody, &["admin"], &["staff", "acme"]), Vec::<String>::new());
    }

    #[test]
    fn what_a_role_permits() {
        let (roles, _) = roles(ROLES);
        for (role, method, path, expected) in [
            ("reader", "GET", "/orders", true),
            ("reader", "HEAD", "/orders/7", true),
            ("reader", "POST", "/orders/7", false),
            ("reader", "GET", "/ordersX", false),
            ("writer", "POST", "/orders/7", true),
            ("writer", "POST", "/orders/", false),
            ("writer", "GET", "/orders/7", false),
            ("admin", "DELETE", "/anything/at/all", true),
        ] {
            assert_eq!(
                roles.get(role).unwrap().permits_request(method, path),
                expected,
                "{role} {method} {path}"
            );
        }
        let permit = |name| roles.that_permit(name).map(|role| role.name().as_str()).collect::<Vec<_>>();
        assert_eq!((permit("orders:write"), permit("nothing")), (vec!["writer"], vec![]));
    }

    #[test]
    fn mistakes_have_their_places() {
        let (_, found) = roles(
            "a: { permissions: ['a b', /orders, { path: orders }, { methods: [get], path: /a }], includes: [b] }\n\
             b: { includes: [c] }\nc: { includes: [b, aa] }",
        );
        let expected = [
            "roles.b.includes: the role `b` includes itself",
            "roles.c.includes[1]: unknown role `aa` (did you mean `a`?)",
            "roles.c.includes: the role `c` includes itself",
            "roles.a.permissions[0]: `a b` is not the name of a permission",
            "roles.a.permissions[1]: `/orders` is not the name of a permission (write `{ path: /orders }` for requests)",
            "roles.a.permissions[2]: `orders` is not a path pattern",
            "roles.a.permissions[3]: `get` is not a method: case counts",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }
}
