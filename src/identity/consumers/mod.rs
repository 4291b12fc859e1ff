//! Known callers and how they are found: by the digest of an API key, by the subject of a provider.
//! A look-up takes the same time whatever their number.

mod file;
mod held;
mod index;
mod table;

use super::admission::Admission;
use super::certificate::ClientCertificate;
use super::config::{ConsumersConfig, PlanConfig, ProviderConfig};
use super::signatures::SigningKey;
use super::{Consumer, Principal};
use crate::retained::Retained;
use crate::values::{ConfigPath, Finding, Name, Problem, Sha256};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use table::{Builder, Digest, Table, Twice};

/// The consumers of a configuration: those that stand in it, and those of its file.
#[derive(Debug, Default)]
pub struct Consumers {
    named: Table,
    file: Option<Arc<file::Kept>>,
    from_file: Arc<Table>,
    /// By provider, how subjects that are not listed become consumers.
    admissions: BTreeMap<Name, Admission>,
}

/// A credential that is several consumers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several;

/// What consumers refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) plans: &'a BTreeMap<Name, Arc<PlanConfig>>,
    pub(super) providers: &'a BTreeMap<Name, ProviderConfig>,
}

impl Consumers {
    /// Reads and packs consumers; a file that has not changed since the last time is not read again.
    pub(super) fn compile(
        config: &ConsumersConfig,
        known: Known<'_>,
        retained: &Retained,
        found: &mut Vec<Finding>,
    ) -> Self {
        let path = ConfigPath::root().key("consumers");
        let mut builder = Builder::default();
        for (name, consumer) in &config.named {
            for (place, problem) in builder.add(name.as_str(), consumer, 0) {
                let at = path.key(name).key("credentials").index(place);
                found.push(Finding::error(at, problem));
            }
        }
        let admissions = admissions(known, found);
        let (named, twice) = builder.build();
        found.extend(twice.into_iter().map(|twice| Finding::error(path.key(&twice.other), told(&twice))));
        let mut consumers = Self { named, admissions, ..Self::default() };
        let Some(source) = &config.file else {
            found.extend(consumers.passed_off(known));
            return consumers;
        };
        let at = path.key("file");
        match file::read(source, retained) {
            Ok((kept, table)) => (consumers.file, consumers.from_file) = (Some(kept), table),
            Err(problems) => {
                found.extend(problems.into_iter().map(|problem| Finding::error(at.clone(), problem)));
                return consumers;
            }
        }
        let shown = source.display();
        let problems = consumers.unknown(known).into_iter().map(|(line, problem)| Problem {
            what: format!("`{shown}` line {line}: {}", problem.what),
            remedy: problem.remedy,
        });
        found.extend(problems.chain(consumers.in_both()).map(|problem| Finding::error(at.clone(), problem)));
        found.extend(consumers.passed_off(known));
        consumers
    }

    /// Who has the API key of this digest.
    pub fn by_api_key(&self, digest: &Sha256) -> Option<&Arc<Principal>> {
        self.find(|table| table.by_key(digest))
    }

    /// Whom this provider calls by this subject.
    pub fn by_subject(&self, provider: &str, subject: &str) -> Option<&Arc<Consumer>> {
        if self.is_empty() {
            return None;
        }
        let digest = table::subject(provider, subject);
        self.find(|table| table.by_subject(&digest))?.consumer.as_ref()
    }

    /// Whose this certificate is.
    ///
    /// # Errors
    /// It is several consumers', by different parts of it.
    pub fn by_certificate(&self, certificate: &ClientCertificate) -> Result<Option<&Arc<Consumer>>, Several> {
        let mut found: Option<&Arc<Consumer>> = None;
        for digest in certificate.digests() {
            let one = self.find(|table| table.by_subject(digest)).and_then(|one| one.consumer.as_ref());
            match (found, one) {
                (Some(known), Some(one)) if known.name != one.name => return Err(Several),
                (known, one) => found = known.or(one),
            }
        }
        Ok(found)
    }

    /// Whose this user name is, and the hash of the password.
    pub fn by_user(&self, user: &str) -> Option<(&Arc<Consumer>, &str)> {
        let digest = table::user(user);
        let holder = |table: &'_ Table| table.passwords().holder(&digest);
        let hash = self.tables().find_map(|table| table.passwords().get(&digest))?.1;
        Some((self.find(holder)?.consumer.as_ref()?, &**hash))
    }

    /// The hash of a password of somebody, chosen by a number.
    pub fn some_hash(&self, number: u64) -> Option<&str> {
        let all: u64 = self.tables().map(|table| table.passwords().len() as u64).sum();
        let mut number = number.checked_rem(all)?;
        self.tables().find_map(|table| {
            let here = table.passwords().len() as u64;
            let found = (number < here).then(|| table.passwords().any(number)).flatten();
            number = number.saturating_sub(here);
            found.map(|hash| &**hash)
        })
    }

    /// Whose signing key has this name, and the key.
    pub fn by_signing_key(&self, id: &str) -> Option<(&Arc<Consumer>, &SigningKey)> {
        let digest = table::signing_key(id);
        let holder = |table: &'_ Table| table.signing_keys().holder(&digest);
        let key = self.tables().find_map(|table| table.signing_keys().get(&digest))?.1;
        Some((self.find(holder)?.consumer.as_ref()?, key))
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        [&self.named, &*self.from_file].into_iter()
    }

    /// The consumer that a provider's subject is, listed or admitted by these claims.
    pub fn of(&self, provider: &str, subject: &str, claims: &Value) -> Option<Arc<Consumer>> {
        if let Some(listed) = self.by_subject(provider, subject) {
            return Some(Arc::clone(listed));
        }
        // Few providers admit, if any does.
        let (_, admission) = self.admissions.iter().find(|(name, _)| name.as_str() == provider)?;
        admission.consumer(claims).map(Arc::new)
    }

    /// True if a provider could admit a consumer of this name.
    pub fn may_admit(&self, name: &str) -> bool {
        self.admissions.values().any(|admission| name.starts_with(admission.prefix()))
    }

    /// The consumer of this name. It looks through all of them: for operators, not for requests.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Consumer>> {
        self.find(|table| (0..table.len() as u32).find(|at| table.name(*at) == name))?.consumer.as_ref()
    }

    /// Those of these names that consumers have. It looks through all consumers, once.
    pub fn which<'n>(&self, names: &BTreeSet<&'n str>) -> BTreeSet<&'n str> {
        if names.is_empty() {
            return BTreeSet::new();
        }
        let tables = [&self.named, &*self.from_file].into_iter();
        let all = tables.flat_map(|table| (0..table.len() as u32).map(|at| table.name(at)));
        all.filter_map(|name| names.get(name).copied()).collect()
    }

    /// The groups that consumers are in.
    pub fn groups(&self) -> BTreeSet<&str> {
        self.named.groups().chain(self.from_file.groups()).collect()
    }

    /// The names of plans that consumers have or may be admitted with; some more than once.
    pub fn plans(&self) -> impl Iterator<Item = &str> {
        let listed = self.named.plans().iter().chain(self.from_file.plans()).map(|plan| &*plan.name);
        listed.chain(self.admissions.values().flat_map(Admission::plans))
    }

    /// How many consumers there are.
    pub fn len(&self) -> usize {
        self.named.len() + self.from_file.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that they take before any of them has called, in bytes.
    pub fn bytes(&self) -> usize {
        self.named.bytes() + self.from_file.bytes()
    }

    fn find(&self, find: impl Fn(&Table) -> Option<u32>) -> Option<&Arc<Principal>> {
        [&self.named, &*self.from_file].into_iter().find_map(|table| table.principal(find(table)?))
    }

    /// Plans and providers that consumers of the file refer to and that are not there.
    fn unknown(&self, known: Known<'_>) -> Vec<(u64, Problem)> {
        let mut problems = Vec::new();
        for plan in self.from_file.plans().iter().filter(|plan| !known.plans.contains_key(&*plan.name)) {
            let plans = known.plans.keys().map(Name::as_str);
            problems.push((plan.line, Problem::unknown("plan", &plan.name, plans)));
        }
        let providers = self.from_file.providers().iter();
        for provider in providers.filter(|provider| !known.providers.contains_key(&*provider.name)) {
            let providers = known.providers.keys().map(Name::as_str);
            problems.push((provider.line, Problem::unknown("provider", &provider.name, providers)));
        }
        problems
    }

    /// Listed consumers whose names a provider could give to its subjects: these would be taken for them.
    fn passed_off(&self, known: Known<'_>) -> Vec<Finding> {
        let tables = || [&self.named, &*self.from_file].into_iter();
        let mut found = Vec::new();
        for (provider, admission) in &self.admissions {
            let mut listed = tables().flat_map(|table| (0..table.len() as u32).map(|at| table.name(at)));
            let kind = known.providers.get(provider).and_then(|config| Some(config.admit()?.0));
            let taken = listed.find(|name| name.starts_with(admission.prefix()));
            let Some((name, kind)) = taken.zip(kind) else { continue };
            let problem = Problem::new(format!(
                "the name of the consumer `{name}` begins with `{}`: a subject of the provider could be taken for it",
                admission.prefix()
            ))
            .remedy("give `admit` another `prefix`, or the consumer another name");
            let path = ConfigPath::root().key("identity").key("providers").key(provider);
            found.push(Finding::error(path.key(kind).key("admit"), problem));
        }
        found
    }

    /// What stands both in the configuration and in the file.
    fn in_both(&self) -> Vec<Problem> {
        let names = (0..self.named.len() as u32).map(|at| self.named.name(at));
        let mut in_file: ahash::HashSet<&str> = names.collect();
        if !in_file.is_empty() {
            let twice: ahash::HashSet<&str> = (0..self.from_file.len() as u32)
                .map(|at| self.from_file.name(at))
                .filter(|name| in_file.contains(name))
                .collect();
            in_file = twice;
        }
        let of_names = in_file.into_iter().map(|name| ("name", name, name));
        let of_credentials = self.named.digests().filter_map(|(digest, at)| {
            let holder = self.from_file.holder(&digest)?;
            Some((digest.what(), self.named.name(at), self.from_file.name(holder)))
        });
        of_names
            .chain(of_credentials)
            .map(|(what, first, other)| told(&Twice { what, first: first.into(), other: other.into() }))
            .collect()
    }
}

fn admissions(known: Known<'_>, found: &mut Vec<Finding>) -> BTreeMap<Name, Admission> {
    let mut admissions = BTreeMap::new();
    for (name, provider) in known.providers {
        let Some((kind, config)) = provider.admit() else { continue };
        match Admission::compile(name, config, known.plans) {
            Ok(admission) => {
                admissions.insert(name.clone(), admission);
            }
            Err(wrong) => {
                let path = ConfigPath::root().key("identity").key("providers").key(name);
                let path = path.key(kind).key("admit");
                found.extend(wrong.into_iter().map(|finding| finding.under(&path)));
            }
        }
    }
    for (name, admission) in &admissions {
        let begins = |other: &str| other != admission.prefix() && other.starts_with(admission.prefix());
        let near = admissions.iter().find(|(_, other)| begins(other.prefix()));
        let kind = known.providers.get(name).and_then(|config| Some(config.admit()?.0));
        let Some(((other, near), kind)) = near.zip(kind) else { continue };
        let problem = Problem::new(format!(
            "the names of the provider `{other}` begin with `{}`, and so with `{}`: a subject of `{name}` could be taken for one of `{other}`",
            near.prefix(),
            admission.prefix()
        ))
        .remedy("give one of the two a `prefix` that the other one's does not begin with");
        let path = ConfigPath::root().key("identity").key("providers").key(name);
        found.push(Finding::error(path.key(kind).key("admit"), problem));
    }
    admissions
}

fn told(twice: &Twice) -> Problem {
    let Twice { what, first, other } = twice;
    let problem = match *what {
        "name" => Problem::new(format!("there are two consumers `{other}`")),
        what if first == other => Problem::new(format!("the consumer `{first}` has the same {what} twice")),
        what => Problem::new(format!("the consumers `{first}` and `{other}` have the same {what}")),
    };
    problem.remedy("take one of the two away: who calls must be plain")
}

impl Digest {
    const fn what(&self) -> &'static str {
        match self {
            Self::Key(_) => "API key",
            Self::Subject(_) => "subject or certificate",
            Self::User(_) => "user name",
            Self::SigningKey(_) => "name of a key",
        }
    }
}

#[cfg(test)]
mod tests;
