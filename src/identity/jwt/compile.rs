//! From what a configuration says of a provider to a [`Jwt`].

use super::header::Rules;
use super::{Algorithm, FetchConfig, Jwt, JwtConfig, KeysConfig};
use crate::identity::claims::Expected;
use crate::identity::keys::{Key, KeySet, Keys, Location, Origin, RemoteKeys, Source, Wait};
use crate::identity::presented::Places;
use crate::identity::{Building, Upkeep};
use crate::retained::StableId;
use crate::values::{ConfigPath, Duration, Finding, Problem, ServiceUrl};
use aws_lc_rs::digest;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// The largest file of keys, in bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// The most keys of a file or a list.
const MOST_KEYS: usize = 100;
/// The largest token that may be allowed, in bytes.
const LARGEST_TOKEN: u64 = 64 << 10;
/// Clocks that are further apart need another cure.
const LONGEST_LEEWAY: Duration = Duration::from_secs(600);

impl Jwt {
    /// Compiles a provider, with what has to be done beside requests.
    ///
    /// # Errors
    /// All that is wrong with it, with paths from its own key.
    pub(in crate::identity) fn compile(
        name: &str,
        config: &JwtConfig,
        building: &Building<'_>,
    ) -> Result<(Self, Option<Upkeep>), Vec<Finding>> {
        let mut found = Vec::new();
        check_values(config, &mut found);
        let from = ConfigPath::root().key("from");
        let places = Places::compile(&config.from)
            .map_err(|wrong| found.extend(wrong.into_iter().map(|finding| finding.under(&from))));
        if !check_algorithms(config, &mut found) {
            return Err(found);
        }
        let keys = keys(config, building).map_err(|finding| found.push(finding));
        let (Ok(places), Ok((keys, upkeep)), true) = (places, keys, found.is_empty()) else {
            return Err(found);
        };
        let expected = Expected {
            issuer: Some(config.issuer.as_str().into()),
            audiences: config.audiences.clone(),
            required: config.required.iter().map(|name| name.as_str().into()).collect(),
            leeway: config.leeway.get().as_secs(),
            max_age: config.max_age.map(|age| age.get().as_secs()),
        };
        let rules = Rules {
            algorithms: config.algorithms.as_slice().into(),
            kind: config.kind.as_deref().map(Into::into),
        };
        let tokens = Arc::clone(building.tokens);
        let prefix = tokens.seed().prefix(&identity_of(name, config, &keys));
        let jwt = Self {
            name: name.into(),
            rules,
            expected,
            keys,
            max_size: config.max_size.len(),
            places,
            forward: config.forward,
            consumers: Arc::clone(building.consumers),
            tokens,
            prefix,
        };
        Ok((jwt, upkeep))
    }
}

/// Of all that decides whether a token counts. Secrets print as stars, so that the keys themselves are
/// part of it.
fn identity_of(name: &str, config: &JwtConfig, keys: &Keys) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(format!("{name} {config:?}").as_bytes());
    if let Keys::Fixed(set) = keys {
        set.digests().for_each(|digest| context.update(digest));
    }
    let mut identity = [0; 32];
    identity.copy_from_slice(context.finish().as_ref());
    identity
}

fn at(key: &str, problem: Problem) -> Finding {
    Finding::error(ConfigPath::root().key(key), problem)
}

fn check_values(config: &JwtConfig, found: &mut Vec<Finding>) {
    if config.issuer.is_empty() {
        let problem = Problem::new("the issuer has no name").remedy("write what tokens have in `iss`");
        found.push(at("issuer", problem));
    }
    if config.leeway > LONGEST_LEEWAY {
        let problem = Problem::new(format!("a leeway of {} is more than {LONGEST_LEEWAY}", config.leeway))
            .remedy("set the clocks");
        found.push(at("leeway", problem));
    }
    if config.max_age.is_some_and(Duration::is_zero) {
        let problem =
            Problem::new("no token is issued this very moment").remedy("write a time such as `12h`");
        found.push(at("max_age", problem));
    }
    if config.max_size.is_empty() || config.max_size.bytes() > LARGEST_TOKEN {
        let problem = Problem::new(format!("{} is no size for tokens", config.max_size))
            .remedy("write 1B to 64KiB; 8KiB is usual");
        found.push(at("max_size", problem));
    }
    let FetchConfig { every, .. } = &config.fetch;
    if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(every) {
        let problem =
            Problem::new(format!("{every} is no time between fetches")).remedy("write 1s to 1d; 5m is usual");
        found.push(Finding::error(ConfigPath::root().key("fetch").key("every"), problem));
    }
}

/// False if they do not go with the keys, so that nothing more is to be said of these.
fn check_algorithms(config: &JwtConfig, found: &mut Vec<Finding>) -> bool {
    if config.algorithms.is_empty() {
        let problem = Problem::new("no algorithm is allowed: no token would count")
            .remedy("name what the issuer signs with, such as `[ES256]`");
        found.push(at("algorithms", problem));
        return false;
    }
    let symmetric = |algorithm: &Algorithm| algorithm.is_symmetric();
    let (secrets, public) =
        (config.algorithms.iter().any(symmetric), !config.algorithms.iter().all(symmetric));
    let problem = match &config.keys {
        _ if secrets && public => {
            Problem::new("secrets and public keys do not go together").remedy("make two providers of it")
        }
        KeysConfig::Secret(_) if public => Problem::new("a secret is for HS256, HS384 and HS512 alone")
            .remedy("name one of these, or give public keys"),
        KeysConfig::Discover | KeysConfig::Url(_) if secrets => {
            Problem::new("keys that are published are no secrets")
                .remedy("give `keys: { secret: … }`, or name algorithms with public keys")
        }
        KeysConfig::Secret(secret) => {
            let longest = config.algorithms.iter().max_by_key(|algorithm| algorithm.shortest_secret());
            match longest.filter(|algorithm| secret.expose().len() < algorithm.shortest_secret()) {
                Some(algorithm) => {
                    let problem = Problem::new(format!(
                        "{} needs a secret of at least {} bytes",
                        algorithm.name(),
                        algorithm.shortest_secret()
                    ))
                    .remedy("`openssl rand -base64 48` makes one");
                    found.push(Finding::error(ConfigPath::root().key("keys").key("secret"), problem));
                    return false;
                }
                None => return true,
            }
        }
        _ => return true,
    };
    found.push(at("algorithms", problem));
    false
}

fn keys(config: &JwtConfig, building: &Building<'_>) -> Result<(Keys, Option<Upkeep>), Finding> {
    let path = ConfigPath::root().key("keys");
    let fixed = |set: KeySet| {
        let unusable = |algorithm: &&Algorithm| set.candidates(None, **algorithm).next().is_none();
        match config.algorithms.iter().find(unusable) {
            Some(algorithm) => Err(Finding::error(
                path.clone(),
                Problem::new(format!("no key here is for {}", algorithm.name()))
                    .remedy("take it out of `algorithms`, or add its key"),
            )),
            None => Ok((Keys::Fixed(Arc::new(set)), None)),
        }
    };
    match &config.keys {
        KeysConfig::Secret(secret) => {
            // What is too short was reported with the algorithm that it is too short for.
            let set = Key::from_secret(secret.expose().as_bytes()).map(|key| KeySet::new(vec![key]));
            set.map_or_else(|_| Ok((Keys::Fixed(Arc::default()), None)), fixed)
        }
        KeysConfig::Inline(list) => {
            let read = KeySet::of(list, MOST_KEYS, Origin::Configuration);
            let set = read.and_then(all).map_err(|why| Finding::error(path.key("inline"), unusable(&why)))?;
            fixed(set)
        }
        KeysConfig::File(file) => {
            fixed(read_file(file).map_err(|problem| Finding::error(path.key("file"), problem))?)
        }
        KeysConfig::Url(url) => remote(Location::Url(url.clone()), config, building),
        KeysConfig::Discover => {
            let metadata = metadata(&config.issuer).map_err(|problem| at("issuer", problem))?;
            let issuer = config.issuer.as_str().into();
            remote(Location::Discovered { issuer, metadata }, config, building)
        }
    }
}

/// In a configuration, a key that is of no use is a mistake.
fn all(read: crate::identity::keys::Read) -> Result<KeySet, String> {
    if read.skipped.is_empty() { Ok(read.set) } else { Err(read.skipped.join("; ")) }
}

fn unusable(why: &str) -> Problem {
    Problem::new(format!("these keys cannot be used: {why}"))
        .remedy("write JSON Web Keys (RFC 7517): RSA of 2048 bits and more, P-256, P-384, P-521 or Ed25519")
}

/// Where an issuer says where its keys are (OpenID Connect Discovery 1.0, section 4).
fn metadata(issuer: &str) -> Result<ServiceUrl, Problem> {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse().map_err(
        |problem: Problem| {
            Problem::new(format!("this issuer's keys cannot be discovered: {}", problem.what))
                .remedy("say where the keys are: `keys: { url: … }` or `{ file: … }`")
        },
    )
}

fn remote(
    location: Location,
    config: &JwtConfig,
    building: &Building<'_>,
) -> Result<(Keys, Option<Upkeep>), Finding> {
    let fetch = &config.fetch;
    let client = building
        .outbound
        .client(&fetch.call)
        .map_err(|problem| Finding::error(ConfigPath::root().key("fetch").key("call").key("ca"), problem))?;
    // Whom we trust to tell the keys is part of what they are.
    let trust = fetch.call.ca.as_deref().unwrap_or(Path::new("")).display().to_string();
    let id = format!("{location} {trust}");
    let kept = building.retained.get_or_carried(StableId::new("keys", &id), RemoteKeys::default);
    let source = Source {
        location,
        client,
        every: fetch.every.get(),
        keep: fetch.keep.get(),
        most: fetch.max_keys.get().into(),
    };
    let settings = format!("{fetch:?}");
    let (fetching, waiting) = (Arc::clone(&kept), Arc::clone(&kept));
    let upkeep = Upkeep::new(format!("keys {id}"), settings, move || {
        let (keys, source) = (Arc::clone(&fetching), source.clone());
        Box::pin(async move { keys.keep_fresh(&source).await })
    });
    let upkeep = upkeep.until(move || {
        let keys = Arc::clone(&waiting);
        Box::pin(async move { keys.known().await })
    });
    let wait = Wait { places: fetch.waiting.get().into(), time: fetch.wait.get() };
    Ok((Keys::Remote(kept, wait), Some(upkeep)))
}

fn read_file(path: &Path) -> Result<KeySet, Problem> {
    let shown = path.display();
    let unreadable = |error| {
        Problem::new(format!("file `{shown}` cannot be read: {error}"))
            .remedy("a relative path counts from the folder of the configuration file")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Problem::new(format!("file `{shown}` is larger than 1MiB")).remedy("name a file of keys"));
    }
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        let read = KeySet::read(&bytes, MOST_KEYS, Origin::Configuration);
        return read.and_then(all).map_err(|why| unusable(&format!("file `{shown}`: {why}")));
    }
    let blocks: Result<Vec<_>, _> = SubjectPublicKeyInfoDer::pem_slice_iter(&bytes).take(MOST_KEYS).collect();
    let blocks = blocks.map_err(|_| not_keys(path))?;
    if blocks.is_empty() {
        return Err(not_keys(path));
    }
    let keys: Result<Vec<Key>, String> = blocks.iter().map(|der| Key::from_spki(der)).collect();
    keys.map(KeySet::new).map_err(|why| unusable(&format!("file `{shown}`: {why}")))
}

fn not_keys(path: &Path) -> Problem {
    Problem::new(format!("file `{}` holds no public keys", path.display())).remedy(
        "name a JSON Web Key Set, or a PEM file with blocks `-----BEGIN PUBLIC KEY-----` \
         (`openssl pkey -pubout` makes them)",
    )
}
