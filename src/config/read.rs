//! From one file's text to its [`Document`], with all that is wrong in it.

use super::environment::{Environment, Replacing};
use super::model::Document;
use super::model::telemetry::LogTarget;
use super::model::upstream::{Balance, Discover, StickyCookie, Upstream};
use super::tree::{self, Fault, Key, Kind, Node, Parsed, Place};
use crate::policy::config::Setting;
use crate::values::{ConfigPath, EndpointAddress, Problem, Secret, Step, nearest};
use serde::Deserialize as _;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many problems of one item (a route, an upstream) are looked for.
const PROBLEMS_OF_AN_ITEM: usize = 100;

/// What became of a file.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// All of it, or what could be read of it.
    pub document: Document,
    pub faults: Vec<Fault>,
    /// Items that are there but could not be read: `(section, name)`.
    pub unread: HashSet<(String, String)>,
    /// The text is not even YAML: nothing is known of what it holds.
    pub opaque: bool,
    /// Each variable that was asked for, with what it was.
    pub used: BTreeMap<String, Option<String>>,
}

/// Reads the text of a file that stands in `folder`.
pub(super) fn read(text: &str, folder: &Path, environment: &dyn Environment) -> Reading {
    let Parsed { root, mut faults } = tree::parse(text);
    let Some(mut root) = root else {
        if faults.is_empty() {
            faults.push(empty());
        }
        return Reading { faults, opaque: true, ..Reading::default() };
    };
    if root.is_null() {
        return Reading { faults: vec![empty()], opaque: true, ..Reading::default() };
    }
    let mut replacing = Replacing::new(environment);
    replacing.run(&mut root, &mut Vec::new());
    faults.append(&mut replacing.faults);
    let used = replacing.used;

    let mut reading = match Document::deserialize(&root) {
        Ok(document) => Reading { document, ..Reading::default() },
        Err(_) => all_problems(&root),
    };
    faults.append(&mut reading.faults);
    resolve(&mut reading.document, folder);
    Reading { faults, used, ..reading }
}

fn empty() -> Fault {
    let place = Place { line: 1, column: 1, length: 0, more_lines: 0 };
    let problem = Problem::new("the file is empty").remedy("begin with `version: 1`, or take the file away");
    Fault { place, other: None, path: ConfigPath::root(), problem }
}

/// Reads item by item, so that one mistake hides no other.
fn all_problems(root: &Node<'_>) -> Reading {
    let mut reading = Reading::default();
    let Kind::Map(sections) = &root.kind else {
        if let Err(misfit) = Document::deserialize(root) {
            let problem = misfit.into_problem();
            reading.faults.push(Fault { place: root.place, other: None, path: ConfigPath::root(), problem });
        }
        reading.opaque = true;
        return reading;
    };
    for (section, value) in sections {
        let named = matches!(
            &*section.text,
            "stores"
                | "caches"
                | "listeners"
                | "upstreams"
                | "consumers"
                | "plans"
                | "roles"
                | "hosts"
                | "routes"
        );
        match &value.kind {
            Kind::Map(items) if named => {
                for (name, item) in items {
                    let only = Kind::Map(vec![(name.clone(), item.clone())]);
                    let only = Node { place: value.place, kind: only };
                    if !salvage(root, alone(section, only), &mut reading) {
                        reading.unread.insert((section.text.to_string(), name.text.to_string()));
                    }
                }
            }
            _ => {
                if !salvage(root, alone(section, value.clone()), &mut reading) {
                    reading.unread.insert((section.text.to_string(), String::new()));
                }
            }
        }
    }
    reading
}

fn alone<'a>(section: &Key<'a>, value: Node<'a>) -> Node<'a> {
    Node { place: section.place, kind: Kind::Map(vec![(section.clone(), value)]) }
}

/// Reads a document with one item; after a problem again without what was wrong, until there is
/// none. True if there was none.
fn salvage(root: &Node<'_>, mut only: Node<'_>, reading: &mut Reading) -> bool {
    let mut clean = true;
    for _ in 0..PROBLEMS_OF_AN_ITEM {
        let misfit = match Document::deserialize(&only) {
            Ok(document) => {
                if clean {
                    reading.document.take_in(document);
                }
                return clean;
            }
            Err(misfit) => misfit,
        };
        clean = false;
        let path = misfit.path();
        let Some(wrong) = only.at_mut(&path) else { return false };
        let follows = matches!(wrong.kind, Kind::Gone) || has_gone(wrong, misfit.missing());
        wrong.kind = Kind::Gone;
        if !follows {
            let place = root.place_of(&path, misfit.at_key());
            reading.faults.push(Fault { place, other: None, path, problem: misfit.into_problem() });
        }
        if matches!(only.kind, Kind::Gone) {
            return false;
        }
    }
    false
}

/// True if a part of `node` was already reported: what is wrong now may only follow from that.
fn has_gone(node: &Node<'_>, missing: Option<&str>) -> bool {
    let gone = |node: &Node| matches!(node.kind, Kind::Gone);
    match (&node.kind, missing) {
        // A misspelt field is missing as well.
        (Kind::Map(entries), Some(field)) => {
            entries.iter().any(|(key, value)| gone(value) && nearest(&key.text, [field]).is_some())
        }
        (Kind::Map(entries), None) => entries.iter().any(|(_, value)| gone(value)),
        (Kind::List(items), _) => items.iter().any(gone),
        _ => false,
    }
}

impl Document {
    /// Adds a document of which nothing is in this one yet.
    fn take_in(&mut self, mut other: Self) {
        self.version = self.version.or(other.version);
        self.process = self.process.take().or(other.process);
        self.admin = self.admin.take().or(other.admin);
        self.telemetry = self.telemetry.take().or(other.telemetry);
        self.dns = self.dns.take().or(other.dns);
        self.policies = self.policies.take().or(other.policies);
        self.identity = self.identity.take().or(other.identity);
        self.consumers.file = self.consumers.file.take().or(other.consumers.file);
        self.consumers.named.append(&mut other.consumers.named);
        self.plans.append(&mut other.plans);
        self.roles.append(&mut other.roles);
        self.stores.append(&mut other.stores);
        self.caches.append(&mut other.caches);
        self.listeners.append(&mut other.listeners);
        self.upstreams.append(&mut other.upstreams);
        self.hosts.append(&mut other.hosts);
        self.routes.append(&mut other.routes);
    }
}

/// Paths count from the folder of the file that names them.
fn resolve(document: &mut Document, folder: &Path) {
    let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
    if let Some(process) = &mut document.process {
        process.control.iter_mut().chain(&mut process.state).for_each(absolute);
    }
    for store in document.stores.values_mut() {
        let store = Arc::make_mut(store);
        store.files().into_iter().for_each(absolute);
        store.socket().map(absolute);
        store.secrets().into_iter().for_each(|(_, secret)| absolute_secret(secret, folder));
    }
    for cache in document.caches.values_mut().filter(|cache| cache.disk.is_some()) {
        Arc::make_mut(cache).disk.iter_mut().for_each(|disk| absolute(&mut disk.path));
    }
    for listener in document.listeners.values_mut() {
        let listener = Arc::make_mut(listener);
        listener.error_pages.values_mut().for_each(absolute);
        let Some(tls) = &mut listener.tls else { continue };
        for certificate in &mut tls.certificates {
            absolute(&mut certificate.certificate);
            absolute(&mut certificate.key);
        }
        if let Some(client) = &mut tls.client {
            absolute(&mut client.ca);
            client.crl.as_mut().map(absolute);
        }
    }
    for upstream in document.upstreams.values_mut().filter(|upstream| names_files(upstream)) {
        resolve_upstream(Arc::make_mut(upstream), folder);
    }
    for host in document.hosts.values_mut().filter(|host| !host.error_pages.is_empty()) {
        Arc::make_mut(host).error_pages.values_mut().for_each(absolute);
    }
    for route in document.routes.values_mut().filter(|route| !route.error_pages.is_empty()) {
        Arc::make_mut(route).error_pages.values_mut().for_each(absolute);
    }
    document.consumers.file.as_mut().map(absolute);
    if let Some(Setting::On(admin)) = &mut document.admin {
        absolute_secret(&mut admin.token, folder);
    }
    for (_, secret) in document.consumers.secrets() {
        absolute_secret(secret, folder);
    }
    if let Some(identity) = &mut document.identity {
        identity.paths().into_iter().for_each(absolute);
        identity.secrets().into_iter().for_each(|(_, secret)| absolute_secret(secret, folder));
    }
    if let Some(telemetry) = &mut document.telemetry
        && let Setting::On(log) = &mut telemetry.access_log
        && let LogTarget::File(path) = &mut log.to
    {
        absolute(path);
    }
}

fn names_files(upstream: &Upstream) -> bool {
    upstream.tls.is_some()
        || upstream.endpoints.iter().any(|endpoint| endpoint.address.unix().is_some())
        || matches!(upstream.balance, Balance::Sticky(_))
        || matches!(upstream.discover, Some(Discover::File(_)))
}

fn resolve_upstream(upstream: &mut Upstream, folder: &Path) {
    let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
    for endpoint in &mut upstream.endpoints {
        if let EndpointAddress::Unix(path) = &mut endpoint.address {
            absolute(path);
        }
    }
    if let Some(Discover::File(path)) = &mut upstream.discover {
        absolute(path);
    }
    if let Some(tls) = &mut upstream.tls {
        tls.ca.as_mut().map(absolute);
        if let Some(client) = &mut tls.client {
            absolute(&mut client.certificate);
            absolute(&mut client.key);
        }
    }
    if let Balance::Sticky(StickyCookie { secret: Some(Secret::File(path)), .. }) = &mut upstream.balance {
        absolute(path);
    }
}

fn absolute_secret(secret: &mut Secret, folder: &Path) {
    if let Secret::File(path) = secret {
        *path = folder.join(&*path);
    }
}

/// The section and the name that a path begins with.
pub(super) fn item(path: &ConfigPath) -> Option<(&str, Option<&str>)> {
    let mut steps = path.steps().iter().map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    let section = steps.next()??;
    Some((section, steps.next().flatten()))
}
