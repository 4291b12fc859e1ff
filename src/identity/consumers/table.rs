use super::held::{Held, Holding};
use super::index::Index;
use crate::identity::config::{ApiKeyConfig, ConsumerConfig, CredentialConfig, PasswordConfig};
use crate::identity::passwords::hash;
use crate::identity::signatures::SigningKey;
use crate::identity::{Consumer, Method, Principal};
use crate::values::{Problem, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The shortest API key: one that nobody guesses has more than this.
const SHORTEST_KEY: usize = 16;

/// Consumers and what they prove themselves by, packed: a consumer takes some dozen bytes besides its
/// name until it calls for the first time.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// All names, one after the other.
    names: Box<str>,
    rows: Box<[Row]>,
    plans: Box<[Named]>,
    tenants: Box<[Named]>,
    /// Providers that its credentials are of.
    providers: Box<[Named]>,
    groups: Box<[Arc<[Box<str>]>]>,
    /// By the digest of the key.
    keys: Index<u32>,
    /// By [`subject`], or by what stands in a certificate.
    subjects: Index<u32>,
    /// Hashes of passwords, by [`user`].
    passwords: Held<Box<str>>,
    /// By [`signing_key`].
    signing_keys: Held<Box<SigningKey>>,
    /// What a consumer is to a policy, made when it first calls.
    known: Box<[OnceLock<Arc<Principal>>]>,
}

/// A consumer, by where its parts are.
#[derive(Debug)]
struct Row {
    /// Where its name begins; it ends where the next one's begins.
    name: u32,
    /// Which of the sets of groups.
    groups: u32,
    /// Which of the plans, counted from 1; 0 is none.
    plan: u32,
    /// Which of the tenants, counted from 1; 0 is none.
    tenant: u32,
}

/// A name that consumers refer to, with where the first of them stands.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    /// Its line in the file, from 1.
    pub(super) line: u64,
}

/// The name in this place, counted from 1.
fn nth(names: &[Named], place: u32) -> Option<Arc<str>> {
    let at = (place as usize).checked_sub(1)?;
    names.get(at).map(|named| Arc::clone(&named.name))
}

/// The digest by which a subject of a provider is found.
pub(super) fn subject(provider: &str, subject: &str) -> Sha256 {
    Sha256::of_parts(&[b"subject", provider.as_bytes(), subject.as_bytes()])
}

/// The digest by which a user name is found.
pub(super) fn user(name: &str) -> Sha256 {
    Sha256::of_parts(&[b"user", name.as_bytes()])
}

/// The digest by which a key that signs is found.
pub(super) fn signing_key(id: &str) -> Sha256 {
    Sha256::of_parts(&[b"signing key", id.as_bytes()])
}

impl Table {
    /// How many consumers.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn name(&self, at: u32) -> &str {
        let name = |at: usize| self.rows.get(at).map_or(self.names.len(), |row| row.name as usize);
        self.names.get(name(at as usize)..name(at as usize + 1)).unwrap_or_default()
    }

    pub(super) fn by_key(&self, digest: &Sha256) -> Option<u32> {
        self.keys.get(digest)
    }

    pub(super) fn by_subject(&self, digest: &Sha256) -> Option<u32> {
        self.subjects.get(digest)
    }

    /// A consumer as the caller that a key of its own proves it to be.
    pub(super) fn principal(&self, at: u32) -> Option<&Arc<Principal>> {
        let (known, row) = (self.known.get(at as usize)?, self.rows.get(at as usize)?);
        Some(known.get_or_init(|| {
            let consumer = Consumer {
                name: self.name(at).into(),
                plan: nth(&self.plans, row.plan),
                tenant: nth(&self.tenants, row.tenant),
                groups: self.groups.get(row.groups as usize).cloned().unwrap_or_default(),
            };
            Arc::new(Principal::of(Method::ApiKey, self.name(at), Arc::new(consumer)))
        }))
    }

    pub(super) const fn passwords(&self) -> &Held<Box<str>> {
        &self.passwords
    }

    pub(super) const fn signing_keys(&self) -> &Held<Box<SigningKey>> {
        &self.signing_keys
    }

    /// The groups that consumers are in; some more than once.
    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|set| set.iter()).map(|group| &**group)
    }

    /// The plans that consumers have.
    pub(super) fn plans(&self) -> &[Named] {
        &self.plans
    }

    /// The providers that credentials are of.
    pub(super) fn providers(&self) -> &[Named] {
        &self.providers
    }

    /// The memory that it takes before anybody has called, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.names.len()
            + size_of_val(&*self.rows)
            + size_of_val(&*self.known)
            + self.keys.bytes()
            + self.subjects.bytes()
            + self.passwords.bytes()
            + self.signing_keys.bytes()
    }

    /// The digests of all credentials, each with whose it is.
    pub(super) fn digests(&self) -> impl Iterator<Item = (Digest, u32)> {
        let keys = self.keys.iter().map(|(digest, at)| (Digest::Key(*digest), *at));
        let subjects = self.subjects.iter().map(|(digest, at)| (Digest::Subject(*digest), *at));
        let users = self.passwords.names().map(|(digest, at)| (Digest::User(digest), at));
        let signing = self.signing_keys.names().map(|(digest, at)| (Digest::SigningKey(digest), at));
        keys.chain(subjects).chain(users).chain(signing)
    }

    pub(super) fn holder(&self, digest: &Digest) -> Option<u32> {
        match digest {
            Digest::Key(digest) => self.keys.get(digest),
            Digest::Subject(digest) => self.subjects.get(digest),
            Digest::User(digest) => self.passwords.holder(digest),
            Digest::SigningKey(digest) => self.signing_keys.holder(digest),
        }
    }
}

/// What a credential is found by.
pub(super) enum Digest {
    Key(Sha256),
    Subject(Sha256),
    User(Sha256),
    SigningKey(Sha256),
}

/// A table under construction.
#[derive(Default)]
pub(super) struct Builder {
    names: String,
    rows: Vec<Row>,
    plans: Interned<Arc<str>>,
    tenants: Interned<Arc<str>>,
    providers: Interned<Arc<str>>,
    groups: Interned<Arc<[Box<str>]>>,
    keys: Vec<(Sha256, u32)>,
    subjects: Vec<(Sha256, u32)>,
    passwords: Holding<Box<str>>,
    signing_keys: Holding<Box<SigningKey>>,
}

/// Things that many consumers have in common, each once, with the line where it is first.
struct Interned<T> {
    all: Vec<(T, u64)>,
    places: HashMap<T, u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { all: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interned<T> {
    fn place(&mut self, item: T, line: u64) -> u32 {
        *self.places.entry(item).or_insert_with_key(|item| {
            self.all.push((item.clone(), line));
            (self.all.len() - 1) as u32
        })
    }
}

impl Interned<Arc<str>> {
    fn named(self) -> Box<[Named]> {
        self.all.into_iter().map(|(name, line)| Named { name, line }).collect()
    }
}

/// What two consumers have in common and must not.
pub(super) struct Twice {
    pub(super) what: &'static str,
    pub(super) first: Box<str>,
    pub(super) other: Box<str>,
}

impl Builder {
    /// Adds a consumer that stands in this line; what is wrong with its credentials is returned, each
    /// with its place among them.
    pub(super) fn add(&mut self, name: &str, config: &ConsumerConfig, line: u64) -> Vec<(usize, Problem)> {
        let (Ok(at), Ok(start)) = (u32::try_from(self.rows.len()), u32::try_from(self.names.len())) else {
            return vec![(0, Problem::new("there are more consumers than fit"))];
        };
        self.names.push_str(name);
        let groups = config.groups.iter().map(|group| group.as_str().into()).collect::<Vec<Box<str>>>();
        let groups = self.groups.place(groups.into(), line);
        let plan = config.plan.as_ref().map_or(0, |plan| self.plans.place(plan.as_str().into(), line) + 1);
        let tenant = config.tenant.as_ref();
        let tenant = tenant.map_or(0, |tenant| self.tenants.place(tenant.as_str().into(), line) + 1);
        self.rows.push(Row { name: start, groups, plan, tenant });
        let mut wrong = Vec::new();
        for (place, credential) in config.credentials.iter().enumerate() {
            if let Err(problem) = self.credential(at, credential, line) {
                wrong.push((place, problem));
            }
        }
        wrong
    }

    fn credential(&mut self, at: u32, credential: &CredentialConfig, line: u64) -> Result<(), Problem> {
        match credential {
            CredentialConfig::ApiKey(ApiKeyConfig::Sha256(digest)) => self.keys.push((*digest, at)),
            CredentialConfig::ApiKey(ApiKeyConfig::Key(key)) => {
                if key.expose().chars().count() < SHORTEST_KEY {
                    return Err(Problem::new(format!(
                        "the API key has fewer than {SHORTEST_KEY} characters"
                    ))
                    .remedy("make one that nobody guesses with `openssl rand -hex 32`"));
                }
                self.keys.push((Sha256::of(key.expose().as_bytes()), at));
            }
            CredentialConfig::Jwt(of) => {
                let provider = of.provider.as_str();
                self.providers.place(provider.into(), line);
                self.subjects.push((subject(provider, &of.subject), at));
            }
            CredentialConfig::Basic(password) => {
                let PasswordConfig { user: name, hash: of } = password;
                if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
                    let problem =
                        Problem::new("a user name is not empty and has no colon or control character");
                    return Err(
                        problem.remedy("the colon ends the name where it is sent (RFC 7617 section 2)")
                    );
                }
                hash::check(of.expose())?;
                self.passwords.add(user(name), at, of.expose().into());
            }
            CredentialConfig::Signature(signing) => {
                signing.check_id()?;
                let key = SigningKey::read(&signing.key)?;
                self.signing_keys.add(signing_key(&signing.id), at, Box::new(key));
            }
            CredentialConfig::Certificate(of) => self.subjects.push((of.digest()?, at)),
        }
        Ok(())
    }

    /// The table, and what is there twice.
    pub(super) fn build(self) -> (Table, Vec<Twice>) {
        let mut twice = Vec::new();
        let keys = Index::new(self.keys, |first, other| twice.push(("API key", first, other)));
        let subjects =
            Index::new(self.subjects, |first, other| twice.push(("subject or certificate", first, other)));
        let passwords = self.passwords.build(|first, other| twice.push(("user name", first, other)));
        let signing_keys =
            self.signing_keys.build(|first, other| twice.push(("name of a key", first, other)));
        let known = (0..self.rows.len()).map(|_| OnceLock::new()).collect();
        let table = Table {
            names: self.names.into(),
            rows: self.rows.into(),
            plans: self.plans.named(),
            tenants: self.tenants.named(),
            providers: self.providers.named(),
            groups: self.groups.all.into_iter().map(|(groups, _)| groups).collect(),
            keys,
            subjects,
            passwords,
            signing_keys,
            known,
        };
        twice.extend(table.names_twice().into_iter().map(|(first, other)| ("name", first, other)));
        let name = |at| table.name(at).into();
        let named = |(what, first, other)| Twice { what, first: name(first), other: name(other) };
        let twice = twice.into_iter().map(named).collect();
        (table, twice)
    }
}

impl Table {
    fn names_twice(&self) -> Vec<(u32, u32)> {
        let hasher = ahash::RandomState::new();
        let rows = 0..self.rows.len() as u32;
        let mut hashed: Vec<(u64, u32)> = rows.map(|at| (hasher.hash_one(self.name(at)), at)).collect();
        hashed.sort_unstable();
        let same = hashed
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0 && self.name(pair[0].1) == self.name(pair[1].1));
        same.map(|pair| (pair[0].1, pair[1].1)).collect()
    }
}
