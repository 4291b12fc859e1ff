use super::alternative::Alternative;
use super::conflict;
use super::expression;
use super::host::HostPattern;
use super::pattern::{PathExpression, foreign_parameter};
use super::predicate::Predicate;
use super::trie::{Leaf, NodeId, Place, Trie};
use super::{Host, Hosts, Router};
use crate::config::model::route::{Condition, Match, Matches, Route};
use crate::message::method::MethodSet;
use crate::message::pattern::PathPattern;
use crate::values::{ConfigPath, Finding, ListenerId, Name, Problem, RouteId};
use ahash::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A route to be compiled.
#[derive(Clone, Debug)]
pub struct RouteSpec<'a> {
    /// What a lookup answers with.
    pub id: RouteId,
    /// For findings.
    pub name: &'a Name,
    /// The listeners it is bound to; none stands for all.
    pub on: Option<Vec<ListenerId>>,
    /// What it says.
    pub route: &'a Route,
}

/// Bounds on what is looked through one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Alternatives with the same host and path. Default 64.
    pub alternatives_per_path: usize,
    /// Alternatives with a `path_regex` for the same host. Default 64.
    pub expressions_per_host: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { alternatives_per_path: 64, expressions_per_host: 64 }
    }
}

/// The parameters of a route, sorted: what every alternative binds. A place in this table is the
/// slot that [`super::Params::get`] takes. Patterns that are wrong bind nothing; compiling the
/// router says what is wrong with them.
pub fn parameters(matches: &Matches) -> Vec<String> {
    let bound = matches.0.iter().map(|one| match (&one.path, &one.path_regex) {
        (Some(path), _) => PathPattern::parse(path).map_or_else(
            |_| Vec::new(),
            |pattern| pattern.names.iter().map(|name| (*name).to_owned()).collect(),
        ),
        (None, Some(regex)) => expression::group_names(regex)
            .map_or_else(|_| Vec::new(), |names| names.into_iter().map(|(name, _)| name).collect()),
        (None, None) => Vec::new(),
    });
    common(bound)
}

fn common(lists: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut names = lists
        .reduce(|mut names, bound| {
            names.retain(|name| bound.contains(name));
            names
        })
        .unwrap_or_default();
    names.sort_unstable();
    names
}

/// Where an alternative comes from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) name: &'a Name,
    index: usize,
    /// True if it is the only one: it then stands in `match` itself.
    only: bool,
}

impl Source<'_> {
    pub(super) fn path(&self) -> ConfigPath {
        let matches = ConfigPath::root().key("routes").key(self.name).key("match");
        if self.only { matches } else { matches.index(self.index) }
    }
}

/// An alternative at one of its places.
#[derive(Clone, Copy)]
struct Placement {
    place: Place,
    alternative: u32,
}

/// What a [`Match`] says about the path.
enum PathSide<'a> {
    Pattern(PathPattern<'a>),
    Expression(PathExpression),
}

struct Compiler<'a> {
    alternatives: Vec<Alternative>,
    sources: Vec<Source<'a>>,
    hosts: HashMap<HostPattern, u32, RandomState>,
    roots: Vec<NodeId>,
    trie: Trie,
    placements: Vec<Placement>,
    findings: Vec<Finding>,
}

impl Router {
    /// Compiles routes, in about the time that it takes to read them. The paths of the findings
    /// begin at the document's root. With an error among them the router lacks what was wrong and
    /// must not serve.
    pub fn compile<'a>(
        specs: impl IntoIterator<Item = RouteSpec<'a>>,
        limits: Limits,
    ) -> (Self, Vec<Finding>) {
        let hasher = RandomState::new();
        let mut compiler = Compiler {
            alternatives: Vec::new(),
            sources: Vec::new(),
            hosts: HashMap::with_hasher(hasher.clone()),
            roots: Vec::new(),
            trie: Trie::new(hasher.clone()),
            placements: Vec::new(),
            findings: Vec::new(),
        };
        for spec in specs {
            compiler.add(&spec);
        }
        compiler.finish(limits, &hasher)
    }
}

impl<'a> Compiler<'a> {
    fn add(&mut self, spec: &RouteSpec<'a>) {
        let listeners: Option<Arc<[ListenerId]>> = spec.on.as_deref().map(Arc::from);
        let matches = &spec.route.matches.0;
        let source = |index| Source { name: spec.name, index, only: matches.len() == 1 };
        let paths: Vec<_> = matches
            .iter()
            .enumerate()
            .map(|(index, one)| PathSide::read(one, &source(index).path(), &mut self.findings))
            .collect();
        let parameters = common(paths.iter().flatten().map(PathSide::names));
        for (index, (one, path)) in matches.iter().zip(paths).enumerate() {
            let place = source(index).path();
            let hosts = self.read_hosts(&one.hosts, &place.key("hosts"));
            let methods = self.read_methods(&one.methods, &place.key("methods"));
            let predicates = self.read_predicates(one, &place);
            let Some(path) = path else {
                continue;
            };
            let slots = parameters.iter().map(|name| path.slot(name)).collect();
            let (pattern, expression) = match path {
                PathSide::Pattern(pattern) => (Some(pattern), None),
                PathSide::Expression(path) => (None, Some(Box::new(path.expression))),
            };
            let alternative = self.alternatives.len() as u32;
            self.alternatives.push(Alternative {
                route: spec.id,
                index: index as u32,
                priority: spec.route.priority,
                listeners: listeners.clone(),
                methods,
                predicates,
                expression,
                slots,
            });
            self.sources.push(source(index));
            for host in hosts {
                let host = self.host(host);
                let place = match &pattern {
                    Some(pattern) => self.trie.place(self.roots[host as usize], pattern),
                    None => Place::Expression(host),
                };
                self.placements.push(Placement { place, alternative });
            }
        }
    }

    /// The number of a host, new if need be.
    fn host(&mut self, pattern: HostPattern) -> u32 {
        *self.hosts.entry(pattern).or_insert_with(|| {
            self.roots.push(self.trie.root());
            self.roots.len() as u32 - 1
        })
    }

    fn read_hosts(&mut self, texts: &[String], place: &ConfigPath) -> Vec<HostPattern> {
        if texts.is_empty() {
            return vec![HostPattern::Any];
        }
        let mut hosts = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            match HostPattern::parse(text) {
                Ok(host) if hosts.contains(&host) => {
                    let problem = Problem::new(format!("the host `{text}` is there twice"));
                    self.findings.push(Finding::warning(place.index(at), problem.remedy("remove one")));
                }
                Ok(host) => hosts.push(host),
                Err(problem) => self.findings.push(Finding::error(place.index(at), problem)),
            }
        }
        hosts
    }

    fn read_methods(&mut self, texts: &[String], place: &ConfigPath) -> Option<MethodSet> {
        let mut methods = MethodSet::default();
        for (at, text) in texts.iter().enumerate() {
            if let Err(problem) = methods.add(text) {
                self.findings.push(Finding::error(place.index(at), problem));
            }
        }
        (!texts.is_empty()).then_some(methods)
    }

    /// From the cheapest on.
    fn read_predicates(&mut self, one: &Match, place: &ConfigPath) -> Box<[Predicate]> {
        type Read = fn(&str, &Condition) -> Result<Predicate, Problem>;
        let fields: [(&str, &BTreeMap<String, Condition>, Read); 3] = [
            ("headers", &one.headers, Predicate::header),
            ("cookies", &one.cookies, Predicate::cookie),
            ("query", &one.query, Predicate::query),
        ];
        let client = (!one.client.is_empty()).then(|| Predicate::Client(one.client.as_slice().into()));
        let mut predicates: Vec<Predicate> = client.into_iter().collect();
        for (kind, conditions, read) in fields {
            for (name, condition) in conditions {
                match read(name, condition) {
                    Ok(predicate) => predicates.push(predicate),
                    Err(problem) => {
                        self.findings.push(Finding::error(place.key(kind).key(name), problem));
                    }
                }
            }
        }
        predicates.into()
    }

    fn finish(mut self, limits: Limits, hasher: &RandomState) -> (Router, Vec<Finding>) {
        let alternatives = &self.alternatives;
        let get = |placement: &Placement| &alternatives[placement.alternative as usize];
        self.placements
            .sort_by(|a, b| a.place.cmp(&b.place).then_with(|| get(a).order().cmp(&get(b).order())));
        let mut expressions = vec![Leaf::default(); self.roots.len()];
        let mut conflicts = conflict::Conflicts::new(alternatives, &self.sources);
        for group in self.placements.chunk_by(|a, b| a.place == b.place) {
            let Some(place) = group.first().map(|first| first.place) else {
                continue;
            };
            let members: Vec<u32> = group.iter().map(|placement| placement.alternative).collect();
            conflicts.look(&members, place, limits);
            let leaf = self.trie.fill(place, members.into_iter());
            if let Place::Expression(host) = place {
                expressions[host as usize] = leaf;
            }
        }
        self.findings.extend(conflicts.findings());
        self.trie.finish(|alternative| alternatives[alternative as usize].priority);
        let mut hosts = Hosts {
            exact: HashMap::with_hasher(hasher.clone()),
            wildcard: HashMap::with_hasher(hasher.clone()),
            any: None,
        };
        for (pattern, number) in self.hosts {
            let number = number as usize;
            let host = Host { root: self.roots[number], expressions: expressions[number] };
            match pattern {
                HostPattern::Exact(name) => drop(hosts.exact.insert(name.into(), host)),
                HostPattern::Wildcard(rest) => drop(hosts.wildcard.insert(rest.into(), host)),
                HostPattern::Any => hosts.any = Some(host),
            }
        }
        (Router { alternatives: self.alternatives, hosts, trie: self.trie }, self.findings)
    }
}

impl<'a> PathSide<'a> {
    /// None if it is wrong, which is then among the findings.
    fn read(one: &'a Match, place: &ConfigPath, findings: &mut Vec<Finding>) -> Option<Self> {
        let (key, read) = match (&one.path, &one.path_regex) {
            (None, None) => return Some(Self::Pattern(PathPattern::any())),
            (Some(_), Some(_)) => {
                let problem =
                    Problem::new("`path` and `path_regex` are both there").remedy("keep one of them");
                findings.push(Finding::error(place.key("path_regex"), problem));
                return None;
            }
            (Some(path), None) => {
                if let Some(segment) = foreign_parameter(path) {
                    let name = segment.trim_start_matches(':');
                    let problem = Problem::new(format!("`{segment}` is taken as it is, not as a parameter"))
                        .remedy(format!("write `{{{name}}}` for a parameter"));
                    findings.push(Finding::warning(place.key("path"), problem));
                }
                ("path", PathPattern::parse(path).map(Self::Pattern))
            }
            (None, Some(regex)) => ("path_regex", PathExpression::parse(regex).map(Self::Expression)),
        };
        read.map_err(|problem| findings.push(Finding::error(place.key(key), problem))).ok()
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Pattern(pattern) => pattern.names.iter().map(|name| (*name).to_owned()).collect(),
            Self::Expression(path) => path.names.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Which capture, or which group, a parameter is.
    fn slot(&self, name: &str) -> u16 {
        match self {
            Self::Pattern(pattern) => {
                pattern.names.iter().position(|known| *known == name).map_or(0, |at| at as u16)
            }
            Self::Expression(path) => {
                path.names.iter().find(|(known, _)| known == name).map_or(0, |(_, group)| *group)
            }
        }
    }
}
