//! The one place where names become indices: a [`Config`] becomes a [`Snapshot`], or nothing does.

use super::body_memory::BodyMemory;
use super::caches;
use super::fallback::{self, Fallback};
use super::pages::Reader;
use super::reach;
use super::snapshot::{Chains, Host, Hosts, Listener, Route, Snapshot, Split, Switch, Target};
use crate::compose::{Local, Redirect, Respond};
use crate::config::model::{host, route as model};
use crate::config::{Config, ConfigErrors, Reading};
use crate::identity::{self, Identity};
use crate::listen::tls::TlsSetup;
use crate::message::normalize;
use crate::outbound::Outbound;
use crate::outbound::redis::Stores;
use crate::policy::CompileEnv;
use crate::policy::chain::{Chain, Layers};
use crate::policy::config::Policies;
use crate::policy::shared::template::Scope;
use crate::retained::{Retained, StableId};
use crate::routing::{self, RouteSpec, Router};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::values::{ConfigPath, Finding, ListenerId, Name, Problem, RouteId, Severity};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// After so many different problems the rest is not worth reading.
const ENOUGH: usize = 1000;

/// What may only seem to be missing while some of a configuration could not be read.
const MISSED: [&str; 7] = [
    "unknown upstream",
    "unknown provider",
    "unknown account",
    "unknown store",
    "unknown role",
    "unknown permission",
    "no role permits",
];

/// What configurations are compiled with, for the life of the process.
pub struct Compiler {
    /// State that outlives a configuration.
    pub retained: Arc<Retained>,
    outbound: Outbound,
    metrics: Arc<Metrics>,
    /// Names of listeners, by number. A name keeps its number.
    listeners: Mutex<Vec<Name>>,
    /// What it compiles is to serve: folders of caches are opened, and not only looked at.
    serves: bool,
}

/// A configuration that can be put in force.
pub struct Compiled {
    /// To be published.
    pub snapshot: Arc<Snapshot>,
    /// What is worth saying about it.
    pub warnings: Vec<Finding>,
}

impl Compiler {
    /// A compiler whose snapshots count on these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            retained: Arc::default(),
            outbound: Outbound::default(),
            metrics,
            listeners: Mutex::default(),
            serves: false,
        }
    }

    /// The same, for snapshots that are to serve.
    pub fn serving(self) -> Self {
        Self { serves: true, ..self }
    }

    /// Compiles a configuration.
    ///
    /// # Errors
    /// All that is wrong with it, the warnings among them, each with its path from the root.
    pub fn compile(&self, config: &Arc<Config>) -> Result<Compiled, Vec<Finding>> {
        let (stores, mut found) = Stores::compile(&config.stores, &self.outbound);
        let sources = identity::Sources {
            identity: &config.identity,
            consumers: &config.consumers,
            plans: &config.plans,
            roles: &config.roles,
            stores: &stores,
        };
        let (identity, wrong) = Identity::compile(sources, (&self.retained, &self.outbound), &self.metrics);
        found.extend(wrong);
        let mut work = Work {
            config,
            compiler: self,
            stores: Arc::new(stores),
            identity: Arc::new(identity),
            pages: Reader::default(),
            found,
            layers: Vec::new(),
            indices: config.upstreams.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect(),
            shared: HashMap::new(),
        };
        let listeners = work.listeners();
        let hosts = work.hosts();
        let upstreams = work.upstreams();
        let (routes, router) = work.routes(&listeners);
        let Work { mut found, identity, stores, .. } = work;
        found.extend(caches::findings(config, &stores));
        let is_wrong = found.iter().any(|finding| finding.severity == Severity::Error);
        // Who gets where is not known while a chain could not be compiled.
        if !is_wrong {
            found.extend(reach::certificates(config, &routes, &listeners));
            found.extend(reach::findings(config, &identity, &reach::chains(config, &routes, &listeners)));
        }
        let mut seen = HashSet::new();
        found.retain(|finding| seen.insert((finding.path.clone(), finding.problem.what.clone())));
        if is_wrong {
            return Err(found);
        }
        let caches = caches::stores(config, (&self.retained, &stores), self.serves)?;
        let names = || config.upstreams.keys().map(Name::as_str);
        let upstreams = upstreams.into_iter().zip(self.metrics.upstreams(names())).collect();
        let snapshot = Snapshot {
            config: Arc::clone(config),
            router,
            routes,
            upstreams,
            listeners,
            stores,
            caches,
            identity,
            hosts,
            body_memory: BodyMemory::new(self.metrics.body_memory(), config.process.body_memory.bytes()),
            unrouted: self.metrics.unrouted(),
            counted: self.metrics.snapshot(),
        };
        Ok(Compiled { snapshot: Arc::new(snapshot), warnings: found })
    }

    /// Compiles what was read, or says all that is wrong, in reading and in compiling alike.
    ///
    /// # Errors
    /// Everything that rejects the configuration, the warnings among it.
    pub fn build(&self, reading: Reading) -> Result<(Compiled, ConfigErrors), ConfigErrors> {
        let Reading { config, report } = reading;
        let config = Arc::new(config);
        match self.compile(&config) {
            Ok(compiled) if report.errors() == 0 => {
                let warnings = report.and(config.errors(compiled.warnings.clone()));
                Ok((compiled, warnings))
            }
            // The reader has said it of these places, or could not read what they refer to.
            Ok(_) => Err(report),
            Err(found) if report.errors() > 0 => {
                // What was left out of a place may be what is missed there.
                let is_told = |path: &ConfigPath| {
                    let near = |told: &ConfigPath| path.is_at_or_under(told) || told.is_at_or_under(path);
                    // What merely warns of a place says nothing of what is wrong there.
                    report.iter().any(|told| told.severity == Severity::Error && near(&told.path))
                };
                let is_news = |finding: &Finding| {
                    finding.severity == Severity::Error
                        && !MISSED.iter().any(|missed| finding.problem.what.starts_with(missed))
                        && !is_told(&finding.path)
                        && !finding.other.as_ref().is_some_and(is_told)
                };
                let news = found.into_iter().filter(is_news).collect();
                Err(report.and(config.errors(news)))
            }
            Err(found) => Err(report.and(config.errors(found))),
        }
    }

    fn listener_id(&self, name: &Name) -> Option<ListenerId> {
        let mut names = self.listeners.lock();
        let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        });
        u16::try_from(at).ok().map(ListenerId)
    }
}

/// A listener's layer of policies.
struct Layer<'a> {
    path: ConfigPath,
    policies: &'a Policies,
    listener: ListenerId,
}

struct Work<'a> {
    config: &'a Config,
    compiler: &'a Compiler,
    /// These two are compiled before the chains, whose policies are compiled with them.
    stores: Arc<Stores>,
    identity: Arc<Identity>,
    pages: Reader,
    found: Vec<Finding>,
    /// The layers of listeners that have one.
    layers: Vec<Layer<'a>>,
    /// Places of upstreams in the snapshot.
    indices: HashMap<&'a str, usize>,
    /// Chains of routes without policies of their own, by the listener's layer.
    shared: HashMap<Option<usize>, Arc<Chain>>,
}

impl<'a> Work<'a> {
    fn listeners(&mut self) -> Box<[Option<Listener>]> {
        let mut compiled = Vec::new();
        for (name, config) in &self.config.listeners {
            let path = ConfigPath::root().key("listeners").key(name);
            let Some(id) = self.compiler.listener_id(name) else {
                self.found
                    .push(Finding::error(path, Problem::new("more than 65536 listeners since the start")));
                continue;
            };
            let tls = config.tls.as_ref().and_then(|tls| self.tls(tls, &path.key("tls")));
            let pages = self.pages.pages(&config.error_pages, || path.key("error_pages"), &mut self.found);
            if config.policies != Policies::default() {
                self.layers.push(Layer {
                    path: path.key("policies"),
                    policies: &config.policies,
                    listener: id,
                });
            }
            let layer = self.layers.iter().position(|layer| layer.listener == id);
            let chain = self.chain(layer, None, &Scope::default());
            let metrics = self.compiler.metrics.listener(id, name.as_str());
            let (config, name) = (Arc::clone(config), name.clone());
            compiled.push(Listener { id, name, config, tls, chain, pages, metrics });
        }
        let count = compiled.iter().map(|listener| listener.id.index() + 1).max().unwrap_or(0);
        let mut by_id: Vec<Option<Listener>> = (0..count).map(|_| None).collect();
        for listener in compiled {
            let at = listener.id.index();
            by_id[at] = Some(listener);
        }
        by_id.into()
    }

    fn tls(
        &mut self,
        config: &crate::config::model::listener::Tls,
        path: &ConfigPath,
    ) -> Option<Arc<TlsSetup>> {
        let (setup, findings) = match TlsSetup::compile(config) {
            Ok((setup, warnings)) => (Some(Arc::new(setup)), warnings),
            Err(findings) => (None, findings),
        };
        self.found.extend(findings.into_iter().map(|finding| finding.under(path)));
        setup
    }

    fn hosts(&mut self) -> Hosts {
        let mut hosts = Hosts::default();
        for (name, config) in &self.config.hosts {
            let path = || ConfigPath::root().key("hosts").key(name).key("error_pages");
            let host = Host {
                options: normalize::Options {
                    slashes: match config.slashes {
                        host::Slashes::Merge => normalize::Slashes::Merge,
                        host::Slashes::Keep => normalize::Slashes::Keep,
                    },
                    escapes: match config.escapes {
                        host::Escapes::Refuse => normalize::Escapes::Refuse,
                        host::Escapes::Keep => normalize::Escapes::Keep,
                    },
                },
                pages: self.pages.pages(&config.error_pages, path, &mut self.found),
            };
            let name = name.to_ascii_lowercase();
            match name.strip_prefix('*') {
                Some(rest) => hosts.wildcard.insert(rest.into(), host),
                None => hosts.exact.insert(name.into(), host),
            };
        }
        hosts
    }

    /// The upstreams, in the order of their names; those that are wrong are left out.
    fn upstreams(&mut self) -> Vec<Upstream> {
        let mut upstreams = Vec::with_capacity(self.config.upstreams.len());
        for (name, config) in &self.config.upstreams {
            let path = || ConfigPath::root().key("upstreams").key(name);
            let findings = match Upstream::compile(name, config, &self.config.dns, &self.compiler.retained) {
                Ok((upstream, warnings)) => {
                    upstreams.push(upstream);
                    warnings
                }
                Err(findings) => findings,
            };
            self.found.extend(findings.into_iter().map(|finding| finding.under(&path())));
        }
        upstreams
    }

    fn routes(&mut self, listeners: &[Option<Listener>]) -> (Box<[Route]>, Router) {
        let ids: HashMap<&str, ListenerId> =
            listeners.iter().flatten().map(|listener| (listener.name.as_str(), listener.id)).collect();
        let bound = |on: &[Name]| -> Option<Vec<ListenerId>> {
            let known = || on.iter().filter_map(|name| ids.get(name.as_str()).copied()).collect();
            (!on.is_empty()).then(known)
        };
        let specs = self.config.routes.iter().enumerate().map(|(at, (name, route))| RouteSpec {
            id: RouteId(at as u32),
            name,
            on: bound(&route.on),
            route,
        });
        let (router, findings) = Router::compile(specs, routing::Limits::default());
        self.found.extend(findings);

        let names = self.config.routes.keys().map(Name::as_str);
        let metrics = self.compiler.metrics.routes(names);
        let mut routes = Vec::with_capacity(self.config.routes.len());
        for ((name, config), metrics) in self.config.routes.iter().zip(metrics) {
            if self.found.len() > ENOUGH {
                break;
            }
            let params = routing::parameters(&config.matches);
            let scope =
                Scope { params: &params, route: Some(name.as_str()), of_this_route: Cell::new(false) };
            let Some(target) = self.target(name, config, &scope) else { continue };
            let path = || ConfigPath::root().key("routes").key(name).key("error_pages");
            let pages = self.pages.pages(&config.error_pages, path, &mut self.found);
            let chains = self.chains(name, config, bound(&config.on).as_deref(), &scope);
            // Where something else is wrong, that may be its cache.
            let is_wrong = |finding: &Finding| finding.severity == Severity::Error;
            if let Some(config) = config.fallback.as_ref().filter(|_| !self.found.iter().any(is_wrong)) {
                self.found.extend(fallback::stale_without_a_cache(name, config, &chains));
            }
            routes.push(Route {
                name: name.clone(),
                chains,
                target,
                timeouts: config.timeouts.clone(),
                retry: config.retry.clone(),
                fallback: self.fallback(name, config, &scope),
                importance: config.importance,
                upgrades: config.upgrades.as_slice().into(),
                pages,
                metrics,
                switch: self.compiler.retained.get_or_carried(StableId::new("route", name), Switch::default),
            });
        }
        (routes.into(), router)
    }

    fn chains(
        &mut self,
        name: &'a Name,
        config: &'a model::Route,
        on: Option<&[ListenerId]>,
        scope: &Scope<'_>,
    ) -> Chains {
        let own = (config.policies != Policies::default()).then_some((name, config));
        let mut by_listener = Vec::new();
        for layer in 0..self.layers.len() {
            let listener = self.layers[layer].listener;
            if on.is_none_or(|on| on.contains(&listener)) {
                by_listener.push((listener, self.chain(Some(layer), own, scope)));
            }
        }
        Chains { plain: self.chain(None, own, scope), by_listener: by_listener.into() }
    }

    /// The chain of a listener's layer and, where it has one, of a route's own.
    fn chain(
        &mut self,
        layer: Option<usize>,
        own: Option<(&Name, &'a model::Route)>,
        scope: &Scope<'_>,
    ) -> Arc<Chain> {
        if own.is_none()
            && let Some(chain) = self.shared.get(&layer)
        {
            return Arc::clone(chain);
        }
        let root = ConfigPath::root();
        let mut layers = vec![(root.key("policies").key("defaults"), &self.config.policies.defaults)];
        layers.extend(layer.map(|at| (self.layers[at].path.clone(), self.layers[at].policies)));
        layers
            .extend(own.map(|(name, route)| (root.key("routes").key(name).key("policies"), &route.policies)));
        let layers = Layers { enforced: &self.config.policies.enforced, layers: &layers };
        scope.of_this_route.set(false);
        let env = CompileEnv {
            scope: Scope { params: scope.params, route: scope.route, of_this_route: Cell::new(false) },
            identity: Arc::clone(&self.identity),
            stores: Arc::clone(&self.stores),
            retained: Arc::clone(&self.compiler.retained),
            metrics: Some(Arc::clone(&self.compiler.metrics)),
            limit_keys: self.config.process.limit_keys as usize,
            caches: self.config.caches.keys().cloned().collect(),
            quota_keys: self.config.process.quota_keys as usize,
            place: RefCell::default(),
        };
        match Chain::compile(&layers, &env) {
            Ok(chain) => {
                let chain = Arc::new(chain);
                if own.is_none() && !env.scope.of_this_route.get() {
                    self.shared.insert(layer, Arc::clone(&chain));
                }
                chain
            }
            Err(findings) => {
                // A listener's own chain serves answers without a route: what a template asks of a
                // route is not wrong there, it is only not there, and routes report what is wrong.
                if scope.route.is_some() || self.config.routes.is_empty() {
                    self.found.extend(findings);
                }
                Arc::default()
            }
        }
    }

    fn target(&mut self, name: &Name, config: &model::Route, scope: &Scope<'_>) -> Option<Target> {
        let path = ConfigPath::root().key("routes").key(name).key("to");
        let local = match &config.to {
            model::Target::Upstream(upstream) => return self.upstream(upstream, &path).map(Target::Upstream),
            model::Target::Split(split) => return self.split(split, &path.key("split")).map(Target::Split),
            model::Target::Respond(respond) => Respond::compile(respond, scope)
                .map(Local::Respond)
                .map_err(|found| (found, path.key("respond"))),
            model::Target::Redirect(redirect) => Redirect::compile(redirect, scope)
                .map(Local::Redirect)
                .map_err(|found| (found, path.key("redirect"))),
            model::Target::Echo(_) => Ok(Local::Echo),
        };
        let failed = |(findings, path): (Vec<Finding>, ConfigPath)| {
            self.found.extend(findings.into_iter().map(|finding| finding.under(&path)));
        };
        local.map_err(failed).ok().map(Target::Local)
    }

    fn fallback(&mut self, name: &Name, config: &model::Route, scope: &Scope<'_>) -> Option<Fallback> {
        let config = config.fallback.as_ref()?;
        let path = ConfigPath::root().key("routes").key(name).key("fallback");
        Fallback::compile(config, &path, scope, |upstream, at| self.upstream(upstream, at))
            .map_err(|found| self.found.extend(found))
            .ok()
    }

    fn split(&mut self, config: &model::Split, path: &ConfigPath) -> Option<Split> {
        let mut end = 0_u32;
        let mut shares = Vec::new();
        for (name, weight) in &config.weights {
            let upstream = self.upstream(name, &path.key("weights").key(name))?;
            end += u32::from(*weight);
            shares.push((upstream, end));
        }
        Some(Split { shares: shares.into(), sticky: config.sticky.clone() })
    }

    fn upstream(&mut self, name: &Name, path: &ConfigPath) -> Option<usize> {
        let known = self.indices.get(name.as_str()).copied();
        if known.is_none() {
            let problem = Problem::unknown("upstream", name.as_str(), self.indices.keys().copied());
            self.found.push(Finding::error(path.clone(), problem));
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;
    use crate::telemetry::metrics::MetricsSettings;

    fn report(yaml: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, yaml).unwrap();
        let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
        let report = match compiler.build(Loader::default().read(&file)) {
            Ok((_, warnings)) => warnings,
            Err(report) => report,
        };
        report.iter().map(|error| format!("{}: {}", error.path, error.problem.what)).collect()
    }

    const BASE: &str = "version: 1\nlisteners: { web: { address: '127.0.0.1:8080' } }\n\
                        upstreams: { u: { endpoints: ['127.0.0.1:1'] } }\n";

    #[test]
    fn mistakes_in_reading_and_in_compiling_are_told_in_one_run() {
        let routes = "routes:\n  a: { match: { path: /a }, too: u, to: u }\n  \
                      b: { match: { path: /b/../c }, to: nobody }\n  \
                      c: { policies: { headers: { request: { set: { x: '{what}' } } } }, to: u }\n";
        let told = report(&format!("{BASE}{routes}"));
        let expected = [
            "routes.a.too: unknown field `too`",
            "routes.b.match.path: `/b/../c` is not in normal form and would match nothing",
            "routes.b.to.upstream: unknown upstream `nobody`",
            "routes.c.policies.headers.request.set.x: unknown variable `{what}`",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_warning_hides_no_mistake_at_its_place() {
        let respond = |body| format!("{{ respond: {{ status: 200, body: '{body}', template: true }} }}");
        let routes = format!(
            "routes:\n  a: {{ match: {{ path: /a }}, to: nobody }}\n  \
             b: {{ match: {{ path: /b }}, to: u, fallback: {{ to: [{}, {}] }} }}\n",
            respond("sorry"),
            respond("{what}"),
        );
        let told = report(&format!("{BASE}{routes}"));
        let expected = [
            "routes.a.to.upstream: unknown upstream `nobody`",
            "routes.b.fallback.to[1]: this is never tried: there is an answer before it",
            "routes.b.fallback.to[1].respond.body: unknown variable `{what}`",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_stale_needs_a_cache() {
        let route = |policies: &str, to: &str| {
            report(&format!(
                "{BASE}caches: {{ default: {{ memory: 8MiB }} }}\n\
                 routes: {{ a: {{ policies: {{ {policies} }}, to: u, fallback: {{ to: [{to}] }} }} }}\n"
            ))
        };
        let respond = "{ respond: { status: 200 } }";
        let before = "{ stale: { max_age: 1h } }";
        assert_eq!(route("cache: {}", &format!("{before}, {respond}")), [""; 0]);
        let told = route("", &format!("{before}, {respond}"));
        assert_eq!(told, ["routes.a.fallback.to[0].stale: this route keeps no answers that could be stale"]);
        let twice = route("cache: {}", &format!("{before}, {{ stale: {{}} }}"));
        assert_eq!(twice, ["routes.a.fallback.to[1]: what is kept is looked at once"]);
    }

    #[test]
    fn what_merely_follows_from_a_misspelt_field_is_not_told() {
        let routes = "routes:\n  a: { match: { path: /a }, to: u }\n  \
                      b: { match: { path: /a, hoss: [x] }, policies: { rewrite: { pth: /x } }, to: u }\n";
        let told = report(&format!("{BASE}{routes}"));
        let expected = [
            "routes.b.match.hoss: unknown field `hoss`",
            "routes.b.policies.rewrite.pth: unknown field `pth`",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_mistake_in_the_defaults_is_told_once() {
        let rest = "policies: { defaults: { headers: { request: { set: { 'a b': x } } } } }\n\
                    routes: { a: { match: { path: /a }, to: u }, b: { match: { path: /b }, to: u } }\n";
        let told = report(&format!("{BASE}{rest}"));
        assert_eq!(told, ["policies.defaults.headers.request.set.a b: `a b` is not a header field's name"]);
    }
}
