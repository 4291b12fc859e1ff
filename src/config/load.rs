//! From a path to a [`Config`], and from one to the next at a reload.

use super::environment::{Environment, ProcessEnvironment};
use super::error::{ConfigError, ConfigErrors};
use super::model::Document;
use super::model::upstream::{Balance, StickyCookie};
use super::read::read;
use super::source::{self, Locator, Source, Sources, locate, whole_file};
use super::tree::Fault;
use super::{Config, check};
use crate::values::{ConfigPath, Finding, Problem, Secret, Severity};
use ahash::RandomState;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that holds a secret.
const LARGEST_SECRET: u64 = 64 << 10;

/// A configuration that may be used, and what `check` and the log say about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings alone.
    pub warnings: ConfigErrors,
}

/// What a load came to: all that could be read, and all that is wrong with the rest.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What could be read. It must not serve if an error is in the report.
    pub config: Config,
    /// Errors and warnings.
    pub report: ConfigErrors,
}

/// Loads configurations, and parses again only the files that changed since the last time.
pub struct Loader {
    environment: Box<dyn Environment>,
    hasher: RandomState,
    known: HashMap<PathBuf, Known>,
}

/// A file that was read without a mistake.
struct Known {
    text: Arc<str>,
    document: Arc<Document>,
    /// The variables that it asked for, with a hash of what they were.
    variables: Vec<(String, u64)>,
}

impl Default for Loader {
    fn default() -> Self {
        Self::new(ProcessEnvironment)
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("files", &self.known.len()).finish_non_exhaustive()
    }
}

impl Loader {
    /// A loader that knows no file yet and looks variables up in `environment`.
    pub fn new(environment: impl Environment + 'static) -> Self {
        Self { environment: Box::new(environment), hasher: RandomState::new(), known: HashMap::new() }
    }

    /// Loads a file, or the `*.yaml` and `*.yml` files of a folder, as one configuration.
    ///
    /// # Errors
    /// All that is wrong with it, in every file, with places.
    pub fn load(&mut self, path: &Path) -> Result<Loaded, ConfigErrors> {
        self.read(path).into()
    }

    /// As [`Self::load`], for who has something to say about what could be read nevertheless.
    pub fn read(&mut self, path: &Path) -> Reading {
        let files = match source::list(path) {
            Ok(files) => files,
            Err(error) => return Reading { report: ConfigErrors::new(vec![*error]), ..Reading::default() },
        };
        let mut unreadable = Vec::new();
        let mut texts = Vec::with_capacity(files.len());
        for file in files {
            match source::text(&file) {
                Ok(text) => texts.push((file, text)),
                Err(error) => unreadable.push(*error),
            }
        }
        self.assemble(path, texts, unreadable)
    }

    /// Loads a text as if it were the file `path`.
    ///
    /// # Errors
    /// All that is wrong with it, with places.
    pub fn load_text(&mut self, path: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
        self.assemble(path, vec![(path.to_owned(), text.to_owned())], Vec::new()).into()
    }

    fn assemble(
        &mut self,
        root: &Path,
        texts: Vec<(PathBuf, String)>,
        unreadable: Vec<ConfigError>,
    ) -> Reading {
        let mut sources = Sources { root: root.to_owned(), files: Vec::with_capacity(texts.len()) };
        let mut faults: Vec<(usize, Fault)> = Vec::new();
        let mut unread = check::Unread { all: !unreadable.is_empty(), items: HashSet::new() };
        let mut known = HashMap::with_capacity(texts.len());
        for (index, (path, text)) in texts.into_iter().enumerate() {
            if let Some(unchanged) = self.known.remove(&path).filter(|known| self.holds(known, &text)) {
                let (text, document) = (unchanged.text.clone(), unchanged.document.clone());
                sources.files.push(Source { path: path.clone(), text, document });
                known.insert(path, unchanged);
                continue;
            }
            let folder = path.parent().unwrap_or_else(|| Path::new(""));
            let reading = read(&text, folder, &*self.environment);
            let text: Arc<str> = text.into();
            let document = Arc::new(reading.document);
            if reading.faults.is_empty() {
                let variables = self.variables(&reading.used);
                let file = Known { text: text.clone(), document: document.clone(), variables };
                known.insert(path.clone(), file);
            }
            sources.files.push(Source { path, text, document });
            faults.extend(reading.faults.into_iter().map(|fault| (index, fault)));
            unread.all |= reading.opaque;
            unread.items.extend(reading.unread);
        }
        self.known = known;
        conclude(sources, faults, unreadable, &unread)
    }

    fn holds(&self, known: &Known, text: &str) -> bool {
        *known.text == *text
            && known.variables.iter().all(|(name, hash)| {
                self.environment.get(name).is_ok_and(|value| self.hasher.hash_one(&value) == *hash)
            })
    }

    fn variables(&self, used: &BTreeMap<String, Option<String>>) -> Vec<(String, u64)> {
        used.iter().map(|(name, value)| (name.clone(), self.hasher.hash_one(value))).collect()
    }
}

/// Puts the files together and checks the whole.
fn conclude(
    sources: Sources,
    faults: Vec<(usize, Fault)>,
    mut errors: Vec<ConfigError>,
    unread: &check::Unread,
) -> Reading {
    let mut merge = Merge { sources: &sources, config: Config::default(), twice: Vec::new() };
    for index in 0..sources.files.len() {
        merge.add(index);
    }
    let (twice, mut config) = (merge.twice, merge.config);
    let mut findings = Vec::new();
    read_secrets(&mut config, &mut findings);
    findings.extend(check::check(&config, unread));
    let versions = sources.files.iter().filter(|source| source.document.version.is_some()).count();
    if versions == 0 && !unread.covers("version", "") {
        errors.push(no_version(&sources));
    }
    let clean = errors.is_empty() && faults.is_empty() && twice.is_empty();
    if clean && findings.is_empty() {
        config.sources = Arc::new(sources);
        return Reading { config, report: ConfigErrors::default() };
    }
    let locator = Locator::new(&sources);
    errors.extend(faults.into_iter().map(|(file, fault)| locator.fault(file, fault)));
    errors.extend(twice.into_iter().map(|(first, second, path)| locator.twice(first, second, path)));
    // What a configuration with mistakes does not use may be used by what could not be read.
    let findings = findings.into_iter().filter(|f| clean || f.severity == Severity::Error);
    errors.extend(findings.map(|finding| locator.finding(finding)));
    let report = ConfigErrors::new(errors);
    config.sources = Arc::new(sources);
    Reading { config, report }
}

impl From<Reading> for Result<Loaded, ConfigErrors> {
    fn from(Reading { config, report }: Reading) -> Self {
        if report.errors() > 0 { Err(report) } else { Ok(Loaded { config, warnings: report }) }
    }
}

fn no_version(sources: &Sources) -> ConfigError {
    let problem = Problem::new("missing field `version`").remedy("begin with `version: 1`");
    match &*sources.files {
        [_] => Locator::new(sources).finding(Finding::error(ConfigPath::root(), problem)),
        _ => whole_file(&sources.root, problem),
    }
}

/// Several files on the way to one configuration.
struct Merge<'s> {
    sources: &'s Sources,
    config: Config,
    /// What stands in two files: the first, the second, what.
    twice: Vec<(usize, usize, ConfigPath)>,
}

impl Merge<'_> {
    fn add(&mut self, file: usize) {
        let document = self.sources.files[file].document.clone();
        let root = ConfigPath::root();
        for (section, given) in [
            ("version", document.version.is_some()),
            ("process", document.process.is_some()),
            ("admin", document.admin.is_some()),
            ("telemetry", document.telemetry.is_some()),
            ("dns", document.dns.is_some()),
            ("policies", document.policies.is_some()),
            ("identity", document.identity.is_some()),
        ] {
            if given {
                self.look_for_twin(file, &root.key(section));
            }
        }
        let config = &mut self.config;
        if let Some(process) = &document.process {
            config.process = process.clone();
        }
        if let Some(admin) = &document.admin {
            config.admin = admin.on().cloned();
        }
        if let Some(telemetry) = &document.telemetry {
            config.telemetry = telemetry.clone();
        }
        if let Some(dns) = &document.dns {
            config.dns = dns.clone();
        }
        if let Some(policies) = &document.policies {
            config.policies = policies.clone();
        }
        if let Some(identity) = &document.identity {
            config.identity = identity.clone();
        }
        let mut twins = Vec::new();
        add_named("stores", &mut config.stores, &document.stores, &mut twins);
        add_named("caches", &mut config.caches, &document.caches, &mut twins);
        add_named("listeners", &mut config.listeners, &document.listeners, &mut twins);
        add_named("upstreams", &mut config.upstreams, &document.upstreams, &mut twins);
        add_named("consumers", &mut config.consumers.named, &document.consumers.named, &mut twins);
        if let Some(file) = &document.consumers.file {
            match &config.consumers.file {
                Some(_) => twins.push(root.key("consumers").key("file")),
                None => config.consumers.file = Some(file.clone()),
            }
        }
        add_named("plans", &mut config.plans, &document.plans, &mut twins);
        add_named("roles", &mut config.roles, &document.roles, &mut twins);
        add_named("hosts", &mut config.hosts, &document.hosts, &mut twins);
        add_named("routes", &mut config.routes, &document.routes, &mut twins);
        for path in twins {
            self.look_for_twin(file, &path);
        }
    }

    fn look_for_twin(&mut self, file: usize, path: &ConfigPath) {
        let first = self.sources.files[..file].iter().position(|source| source.document.holds(path));
        if let Some(first) = first {
            self.twice.push((first, file, path.clone()));
        }
    }
}

fn add_named<K: Ord + Clone + std::fmt::Display, V>(
    section: &str,
    all: &mut BTreeMap<K, Arc<V>>,
    more: &BTreeMap<K, Arc<V>>,
    twins: &mut Vec<ConfigPath>,
) {
    for (name, item) in more {
        match all.entry(name.clone()) {
            Entry::Vacant(free) => {
                free.insert(item.clone());
            }
            Entry::Occupied(_) => twins.push(ConfigPath::root().key(section).key(name)),
        }
    }
}

/// Puts the contents of secret files in the place of their names.
fn read_secrets(config: &mut Config, findings: &mut Vec<Finding>) {
    let Config { admin, stores, upstreams, identity, consumers, secret_files, .. } = config;
    let mut put = |of: &mut Secret, path: ConfigPath| {
        let Secret::File(file) = &*of else { return };
        match secret(file) {
            Ok(secret) => {
                secret_files.push(file.clone());
                *of = secret;
            }
            Err(problem) => findings.push(Finding::error(path.key("file"), problem)),
        }
    };
    if let Some(admin) = admin {
        put(&mut admin.token, ConfigPath::root().key("admin").key("token"));
    }
    for (name, store) in stores {
        let path = ConfigPath::root().key("stores").key(name);
        for (rest, secret) in Arc::make_mut(store).secrets() {
            put(secret, path.join(&rest));
        }
    }
    for (name, upstream) in upstreams {
        if !matches!(&upstream.balance, Balance::Sticky(StickyCookie { secret: Some(Secret::File(_)), .. })) {
            continue;
        }
        if let Balance::Sticky(StickyCookie { secret: Some(key), .. }) = &mut Arc::make_mut(upstream).balance
        {
            let path = ConfigPath::root().key("upstreams").key(name).key("balance").key("sticky");
            put(key, path.key("secret"));
        }
    }
    for (path, secret) in identity.secrets().into_iter().chain(consumers.secrets()) {
        put(secret, path);
    }
}

fn secret(path: &Path) -> Result<Secret, Problem> {
    let shown = path.display();
    let read = || {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        std::fs::File::open(path)?.take(LARGEST_SECRET + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().map_err(|error| {
        Problem::new(format!("the secret in `{shown}` cannot be read: {}", check::why(&error)))
            .remedy("a relative path counts from the folder of the configuration file")
    })?;
    if bytes.len() as u64 > LARGEST_SECRET {
        return Err(Problem::new(format!("the secret in `{shown}` is larger than 64KiB"))
            .remedy("the file must hold the secret and nothing else"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Problem::new(format!("the secret in `{shown}` is not UTF-8")).remedy("encode it as text")
    })?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(Problem::new(format!("the secret in `{shown}` is empty"))
            .remedy("put the secret into the file, or take the field away"));
    }
    Ok(Secret::new(text))
}

/// Loads a file, or the `*.yaml` and `*.yml` files of a folder, with the process's environment.
///
/// # Errors
/// All that is wrong with it, in every file, with places.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    Loader::default().load(path)
}

impl Config {
    /// Gives problems their places: file, line, column and the line itself.
    pub fn errors(&self, findings: Vec<Finding>) -> ConfigErrors {
        if findings.is_empty() {
            return ConfigErrors::default();
        }
        locate(&self.sources, findings)
    }
}

#[cfg(test)]
mod tests;
