//! The text side.

use super::{Cache, Query, SetCookie, Settings};
use crate::policy::CompileEnv;
use crate::policy::shared::cel::Condition;
use crate::values::{ByteSize, ConfigPath, Duration, Finding, Name, Network, Problem};
use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time;

/// Answers to GET are kept and served again, as RFC 9111 says of shared caches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The store, by its name in `caches`. Default `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Name>,
    /// How long an answer is fresh that does not say, by status (`404`) or class (`5xx`): so an answer is
    /// kept that would not be otherwise, an error as well.
    pub ttl: BTreeMap<String, Duration>,
    /// The same for the statuses that a cache may keep by itself, such as 200, 301 and 404. Default: what
    /// `heuristic` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<Duration>,
    /// The shortest time that an answer which is fresh at all stays so, against what it says. Default 0s.
    pub min_ttl: Duration,
    /// The longest time that any answer is fresh. Default 365d.
    pub max_ttl: Duration,
    /// The most that is made of Last-Modified where nothing else is said: a tenth of the age that it had.
    /// Default 1h; 0s to make nothing of it.
    pub heuristic: Duration,
    /// How long a stale answer is served while another one is fetched, where the answer does not say.
    /// Default 0s.
    pub grace: Duration,
    /// How long a stale answer stands in for an error of the upstream, where the answer does not say.
    /// Default 0s.
    pub stale_if_error: Duration,
    /// The largest body that is kept. Default 16MiB.
    pub largest: ByteSize,
    /// Fields of the request that are part of the key.
    pub vary_on: Vec<String>,
    /// What else is part of the key.
    pub key: KeyConfig,
    /// Requests for which this holds, in CEL, neither get kept answers nor leave any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass: Option<String>,
    /// What becomes of an answer with Set-Cookie: `refuse` to keep it (the default), or `strip` the
    /// cookies, which nobody gets then.
    pub set_cookie: OnSetCookie,
    /// Whether clients' Cache-Control counts: `honour` (the default) or `ignore`.
    pub client_directives: ClientDirectives,
    /// The field of answers with their tags, by which they can be purged, such as `surrogate-key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags_from: Option<String>,
    /// Who may purge a URL by the method PURGE. Default: nobody.
    pub purge_from: Vec<Network>,
}

/// What becomes of an answer with Set-Cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnSetCookie {
    /// It is not kept.
    #[default]
    Refuse,
    /// It is kept without.
    Strip,
}

/// Whether clients' Cache-Control counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientDirectives {
    /// It does.
    #[default]
    Honour,
    /// It does not.
    Ignore,
}

/// What is part of the key besides the URL, the route, and what policies set on the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// Cookies, by name.
    pub cookies: Vec<String>,
    /// Whether callers have answers of their own. Default false.
    pub caller: bool,
    /// Query parameters that count; no others go upstream for a fetch. Default: all, as they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_query: Option<Vec<String>>,
    /// Query parameters that do not count, and do not go upstream for a fetch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_query: Option<Vec<String>>,
    /// Whether the order of query parameters of different names counts. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_order: Option<bool>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let defaults = Settings::default();
        let span = |span: time::Duration| Duration::from_secs(span.as_secs());
        Self {
            store: None,
            ttl: BTreeMap::new(),
            default_ttl: None,
            min_ttl: span(defaults.min_ttl),
            max_ttl: span(defaults.max_ttl),
            heuristic: span(defaults.heuristic),
            grace: span(defaults.grace),
            stale_if_error: span(defaults.stale_if_error),
            largest: ByteSize::of(defaults.largest),
            vary_on: Vec::new(),
            key: KeyConfig::default(),
            bypass: None,
            set_cookie: OnSetCookie::Refuse,
            client_directives: ClientDirectives::Honour,
            tags_from: None,
            purge_from: Vec::new(),
        }
    }
}

impl CacheConfig {
    pub(super) fn compile(&self, env: &CompileEnv<'_>) -> Result<Cache, Vec<Finding>> {
        let mut found = Vec::new();
        let root = ConfigPath::root();
        let store = self.store.as_ref().map_or("default", Name::as_str);
        if !env.caches.iter().any(|known| known.as_str() == store) {
            let problem = Problem::unknown("cache", store, env.caches.iter().map(Name::as_str));
            let problem = match env.caches.is_empty() {
                true => problem.remedy(format!("add `caches: {{ {store}: {{ memory: 256MiB }} }}`")),
                false => problem,
            };
            found.push(Finding::error(root.key("store"), problem));
        }
        let ttl = self.ttl(&mut found);
        let vary_on = names(&self.vary_on, &root.key("vary_on"), &mut found);
        let tags_from =
            self.tags_from.as_ref().and_then(|name| field(name, root.key("tags_from"), &mut found));
        let bypass = self.bypass.as_deref().map(|text| Condition::compile(text, &env.scope)).transpose();
        let bypass = bypass.unwrap_or_else(|problem| {
            found.push(Finding::error(root.key("bypass"), problem));
            None
        });
        let query = self.key.query(&root.key("key"), &mut found);
        if !found.is_empty() {
            return Err(found);
        }
        let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        let settings = Settings {
            ttl,
            default_ttl: self.default_ttl.map(Duration::get),
            min_ttl: self.min_ttl.get(),
            max_ttl: self.max_ttl.get(),
            heuristic: self.heuristic.get(),
            grace: self.grace.get(),
            stale_if_error: self.stale_if_error.get(),
            set_cookie: match self.set_cookie {
                OnSetCookie::Refuse => SetCookie::Refuse,
                OnSetCookie::Strip => SetCookie::Strip,
            },
            largest: self.largest.bytes(),
            obeys_requests: self.client_directives == ClientDirectives::Honour,
            by_caller: self.key.caller,
            vary_on: vary_on.into(),
            cookies: boxed(&self.key.cookies),
            query,
            tags_from,
        };
        Ok(Cache { settings, bypass, store: store.into(), purge_from: self.purge_from.clone().into() })
    }

    fn ttl(&self, found: &mut Vec<Finding>) -> Box<[(u16, time::Duration)]> {
        let mut ttl = Vec::with_capacity(self.ttl.len());
        for (status, span) in &self.ttl {
            let class = status.strip_suffix("xx").filter(|class| class.len() == 1);
            let number = class.unwrap_or(status).parse::<u16>().ok();
            match number
                .filter(|n| if class.is_some() { (2..=5).contains(n) } else { (200..=599).contains(n) })
            {
                Some(number) => ttl.push((number, span.get())),
                None => {
                    let problem = Problem::new(format!("`{status}` is no status of an answer"));
                    let problem = problem.remedy("write a status such as `404`, or a class such as `5xx`");
                    found.push(Finding::error(ConfigPath::root().key("ttl").key(status), problem));
                }
            }
        }
        ttl.into()
    }
}

impl KeyConfig {
    fn query(&self, path: &ConfigPath, found: &mut Vec<Finding>) -> Query {
        let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        match (&self.keep_query, &self.drop_query, self.query_order) {
            (None, None, None | Some(true)) => Query::All,
            (None, None, Some(false)) => Query::Sorted,
            (Some(names), None, _) => Query::Keep(boxed(names)),
            (None, Some(names), _) => Query::Drop(boxed(names)),
            (Some(_), Some(_), _) => {
                let problem = Problem::new("`keep_query` and `drop_query` exclude each other");
                found.push(Finding::error(path.key("drop_query"), problem.remedy("leave one of them out")));
                Query::All
            }
        }
    }
}

fn names(texts: &[String], path: &ConfigPath, found: &mut Vec<Finding>) -> Vec<HeaderName> {
    texts.iter().enumerate().filter_map(|(at, text)| field(text, path.index(at), found)).collect()
}

fn field(text: &str, path: ConfigPath, found: &mut Vec<Finding>) -> Option<HeaderName> {
    let name = text.parse().ok();
    if name.is_none() {
        let problem = Problem::new(format!("`{text}` is not a header field's name"));
        found.push(Finding::error(path, problem.remedy("write a name of letters, digits and `-`")));
    }
    name
}
