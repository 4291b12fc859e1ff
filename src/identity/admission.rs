//! Subjects that nobody listed, as consumers: who they are, their groups, tenant and plan, by what their
//! provider claims of them.

use super::config::{ConsumerName, PlanConfig};
use super::pointer::Pointer;
use super::principal::Consumer;
use crate::values::{ConfigPath, Finding, Name, Problem, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most groups that one caller gets; further ones do not count.
const MOST_GROUPS: usize = 256;
/// The longest name of a group, in bytes.
const LONGEST_GROUP: usize = 256;

/// Makes consumers of the provider's subjects that `consumers` does not list. `{}` makes one of each, by its
/// `sub`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdmitConfig {
    /// A JSON pointer to what the consumer is called after. A caller without it is no consumer. Default
    /// `/sub`.
    pub id: String,
    /// What its name begins with, so that no provider can pass its subjects off as other consumers. Default:
    /// the provider's name and `:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A JSON pointer to its groups: a list of texts, or one. Default: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    /// A JSON pointer to the name of its plan. One that is not there counts as none. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The plan of those whose claims name none. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_plan: Option<Name>,
    /// A JSON pointer to the name of its tenant. Default: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl Default for AdmitConfig {
    fn default() -> Self {
        Self {
            id: "/sub".to_owned(),
            prefix: None,
            groups: None,
            plan: None,
            default_plan: None,
            tenant: None,
        }
    }
}

/// [`AdmitConfig`], compiled.
#[derive(Debug)]
pub(super) struct Admission {
    prefix: Box<str>,
    id: Pointer,
    groups: Option<Pointer>,
    plan: Option<Pointer>,
    tenant: Option<Pointer>,
    default_plan: Option<Arc<str>>,
    plans: BTreeSet<Arc<str>>,
}

impl Admission {
    /// Compiles it; paths of findings count from `admit`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn compile(
        provider: &Name,
        config: &AdmitConfig,
        plans: &BTreeMap<Name, Arc<PlanConfig>>,
    ) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let mut wrong = |key: &str, problem| found.push(Finding::error(ConfigPath::root().key(key), problem));
        let mut pointer =
            |key: &str, text: &str| Pointer::parse(text).map_err(|problem| wrong(key, problem)).ok();
        let id = pointer("id", &config.id);
        let groups = config.groups.as_deref().map(|text| pointer("groups", text));
        let plan = config.plan.as_deref().map(|text| pointer("plan", text));
        let tenant = config.tenant.as_deref().map(|text| pointer("tenant", text));
        let prefix = config.prefix.clone().unwrap_or_else(|| format!("{provider}:"));
        if prefix.len() > 100 || prefix.parse::<ConsumerName>().is_err() {
            let problem = Problem::new("it is not what a consumer's name could begin with");
            wrong("prefix", problem.remedy("write 1 to 100 visible ASCII characters, such as `sso:`"));
        }
        let default_plan = config.default_plan.as_ref();
        if let Some(plan) = default_plan.filter(|plan| !plans.contains_key(*plan)) {
            wrong("default_plan", Problem::unknown("plan", plan.as_str(), plans.keys().map(Name::as_str)));
        }
        let (Some(id), true) = (id, found.is_empty()) else { return Err(found) };
        Ok(Self {
            prefix: prefix.into(),
            id,
            groups: groups.flatten(),
            plan: plan.flatten(),
            tenant: tenant.flatten(),
            default_plan: default_plan.map(|plan| plan.as_str().into()),
            plans: plans.keys().map(|plan| plan.as_str().into()).collect(),
        })
    }

    /// What all names begin with that it gives.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The plans that it may give.
    pub fn plans(&self) -> impl Iterator<Item = &str> {
        let claimed = self.plan.is_some().then(|| self.plans.iter());
        claimed.into_iter().flatten().chain(&self.default_plan).map(|plan| &**plan)
    }

    /// The consumer that these claims are of.
    pub fn consumer(&self, claims: &Value) -> Option<Consumer> {
        let mut ids = self.id.texts(claims);
        // A list of several says nothing plain.
        let (Some(id), None) = (ids.next().filter(|id| !id.is_empty()), ids.next()) else { return None };
        let name = |id: String| format!("{}{id}", self.prefix).parse::<ConsumerName>();
        // Whoever can choose a long one must not get rid of its plan by that. `%s` begins no escape.
        let digest = || format!("%sha256-{}", Sha256::of(id.as_bytes()));
        let name = name(escaped(id)).or_else(|_| name(digest())).ok()?;
        let groups = self.groups.as_ref().map(|pointer| pointer.texts(claims)).into_iter().flatten();
        let fits = |group: &&str| (1..=LONGEST_GROUP).contains(&group.len());
        let named = self.plan.as_ref().and_then(|pointer| pointer.texts(claims).next());
        let plan = named.and_then(|name| self.plans.get(name)).or(self.default_plan.as_ref());
        let tenant = self.tenant.as_ref().and_then(|pointer| pointer.texts(claims).next());
        Some(Consumer {
            name: name.as_str().into(),
            plan: plan.map(Arc::clone),
            tenant: tenant.filter(|tenant| !tenant.is_empty()).map(tenant_name),
            groups: groups.filter(fits).take(MOST_GROUPS).map(Box::from).collect(),
        })
    }
}

/// A tenant as claimed, so that it is one that a configuration could name as well. Whoever can choose a long
/// one must not get among those who have none by that.
fn tenant_name(claimed: &str) -> Arc<str> {
    let name = escaped(claimed).parse::<ConsumerName>();
    let digest = || format!("%sha256-{}", Sha256::of(claimed.as_bytes()));
    name.map_or_else(|_| digest().into(), |name| name.as_str().into())
}

/// What is no visible ASCII character, and `%`, as `%` and two digits: other ids have other names.
fn escaped(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'%' => text.push_str("%25"),
            byte if byte.is_ascii_graphic() => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn admission(config: Value) -> Result<Admission, Vec<Finding>> {
        let plans = ["gold", "free"].map(|name| (name.parse().unwrap(), Arc::default()));
        let config = serde_json::from_value(config).unwrap();
        Admission::compile(&"main".parse().unwrap(), &config, &plans.into_iter().collect())
    }

    #[test]
    fn claims_become_consumers() {
        let config = json!({ "id": "/ext/id", "groups": "/roles", "plan": "/tier", "default_plan": "free" });
        let admission = admission(config).unwrap();
        for (claims, name, plan, groups) in [
            (json!({ "ext": { "id": "u-1" } }), "main:u-1", "free", ""),
            (
                json!({ "ext": { "id": "u-1" }, "tier": "gold", "roles": ["a", 7, "b", ""] }),
                "main:u-1",
                "gold",
                "a b",
            ),
            (json!({ "ext": { "id": "u-1" }, "tier": "platinum", "roles": "a" }), "main:u-1", "free", "a"),
            (json!({ "ext": { "id": "ä b%" } }), "main:%C3%A4%20b%25", "free", ""),
        ] {
            let consumer = admission.consumer(&claims).unwrap();
            assert_eq!((&*consumer.name, consumer.plan.as_deref()), (name, Some(plan)), "{claims}");
            assert_eq!(consumer.groups.join(" "), groups, "{claims}");
        }
        for claims in [
            json!({}),
            json!({ "sub": "u-1" }),
            json!({ "ext": { "id": "" } }),
            json!({ "ext": { "id": 7 } }),
            json!({ "ext": { "id": ["a", "b"] } }),
        ] {
            assert_eq!(admission.consumer(&claims), None, "{claims}");
        }
        let long = |sign: &str| admission.consumer(&json!({ "ext": { "id": sign.repeat(200) } })).unwrap();
        let expected = format!("main:%sha256-{}", Sha256::of("a".repeat(200).as_bytes()));
        assert_eq!((&*long("a").name, long("a").plan.as_deref()), (expected.as_str(), Some("free")));
        assert_ne!(long("a").name, long("b").name);
        let plain = super::tests::admission(json!({})).unwrap();
        let consumer = plain.consumer(&json!({ "sub": "ann", "roles": ["a"], "tier": "gold" })).unwrap();
        assert_eq!((&*consumer.name, consumer.plan, consumer.groups.len()), ("main:ann", None, 0));
    }

    #[test]
    fn claims_say_whose_tenants_callers_are() {
        let admission = admission(json!({ "tenant": "/org" })).unwrap();
        let tenant = |org: Value| admission.consumer(&json!({ "sub": "ann", "org": org })).unwrap().tenant;
        assert_eq!(tenant(json!("acme")).as_deref(), Some("acme"));
        assert_eq!(tenant(json!("ä b")).as_deref(), Some("%C3%A4%20b"));
        assert_eq!((tenant(json!("")), tenant(json!(7)), tenant(Value::Null)), (None, None, None));
        let (long, longer) = (tenant(json!("a".repeat(201))), tenant(json!("a".repeat(202))));
        assert!(long.as_deref().is_some_and(|name| name.starts_with("%sha256-")));
        assert_ne!(long, longer);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (config, at) in [
            (json!({ "id": "sub" }), "id"),
            (json!({ "groups": "" }), "groups"),
            (json!({ "plan": "/~" }), "plan"),
            (json!({ "tenant": "org" }), "tenant"),
            (json!({ "prefix": "" }), "prefix"),
            (json!({ "prefix": "a b" }), "prefix"),
            (json!({ "default_plan": "platinum" }), "default_plan"),
        ] {
            let found = admission(config.clone()).unwrap_err();
            assert_eq!(found.iter().map(|one| one.path.to_string()).collect::<Vec<_>>(), [at], "{config}");
        }
    }

    proptest! {
        #[test]
        fn no_two_ids_have_the_same_name(a: String, b: String) {
            prop_assert_eq!(escaped(&a) == escaped(&b), a == b);
            prop_assert!(escaped(&a).bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
