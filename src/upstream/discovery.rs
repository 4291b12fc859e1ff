//! Endpoints that are found: by the DNS, or in a file. What was found last outlives configurations.

use super::live::Live;
use crate::config::model::dns::Dns;
use crate::config::model::upstream::{self as model, Discover};
use crate::values::Problem;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::watch;

/// The most endpoints of an upstream that are found; what is beyond is left out.
pub const MOST_ENDPOINTS: usize = 10_000;

/// A source of endpoints, what it had last, and the upstreams that want to know.
#[derive(Debug)]
pub struct Discovery {
    /// Where endpoints are found.
    pub source: Source,
    state: Mutex<State>,
    failures: AtomicU64,
    settled: watch::Sender<bool>,
}

/// Where endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The addresses of a name, all with this port.
    Dns {
        /// The name.
        name: String,
        /// The port.
        port: u16,
        /// Who is asked, and how.
        dns: Dns,
    },
    /// The services of a name, with ports and weights of their own (RFC 2782).
    Srv {
        /// The name, such as `_http._tcp.orders.internal`.
        name: String,
        /// Who is asked, and how.
        dns: Dns,
    },
    /// A list in a file.
    File(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Arc<[Found]>>,
    upstreams: Vec<Weak<Live>>,
    /// The last failure, so that the same one is logged once.
    failure: Option<String>,
}

/// An endpoint that was found, with what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Address and weight.
    pub endpoint: model::Endpoint,
    /// The name that its certificate is for; none if it has none.
    pub name: Option<Arc<str>>,
}

impl Source {
    /// The source that a configuration names.
    pub fn new(discover: &Discover, dns: &Dns) -> Self {
        match discover {
            Discover::Dns(target) => {
                Self::Dns { name: target.name.clone(), port: target.port, dns: dns.clone() }
            }
            Discover::Srv(name) => Self::Srv { name: name.clone(), dns: dns.clone() },
            Discover::File(path) => Self::File(path.clone()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns { name, port, .. } => write!(f, "dns:{name}:{port}"),
            Self::Srv { name, .. } => write!(f, "srv:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Discovery {
    /// A source that has not been asked yet.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            state: Mutex::default(),
            failures: AtomicU64::new(0),
            settled: watch::Sender::new(false),
        }
    }

    /// Puts what was found in the place of what was there. Logs a change.
    pub fn found(&self, mut endpoints: Vec<Found>) {
        endpoints.truncate(MOST_ENDPOINTS);
        // By address, so that the order of records changes nothing, and each once.
        endpoints.sort_by(|a, b| a.endpoint.address.cmp(&b.endpoint.address));
        endpoints.dedup_by(|a, b| a.endpoint.address == b.endpoint.address);
        let mut state = self.state.lock();
        state.failure = None;
        if state.latest.as_deref() != Some(&*endpoints) {
            let shown: Vec<String> =
                endpoints.iter().take(8).map(|found| found.endpoint.address.to_string()).collect();
            log::info!(
                "endpoints found source={} count={} first={}",
                self.source,
                endpoints.len(),
                shown.join(",")
            );
            let latest: Arc<[Found]> = endpoints.into();
            state.upstreams.retain(|upstream| {
                let living = upstream.upgrade();
                if let Some(upstream) = &living {
                    upstream.replace(&latest);
                }
                living.is_some()
            });
            state.latest = Some(latest);
        }
        self.settled.send_replace(true);
    }

    /// Notes that the source could not be asked; what it had last stays. Logs what is new.
    pub fn failed(&self, failure: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.failure.as_ref() != Some(&failure) {
            let kept = state.latest.as_ref().map_or(0, |latest| latest.len());
            log::warn!("no endpoints found source={} kept={kept} cause={failure:?}", self.source);
            state.failure = Some(failure);
        }
        self.settled.send_replace(true);
    }

    /// How often it could not be asked.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// True once it has been asked, with or without success.
    pub fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Waits until it has been asked.
    pub async fn settled(&self) {
        // It fails only if the sender goes, which is `self`'s.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Tells this upstream what is found from now on, and what was found last at once.
    pub(super) fn tell(&self, upstream: &Arc<Live>) {
        let mut state = self.state.lock();
        if let Some(latest) = &state.latest {
            upstream.replace(latest);
        }
        state.upstreams.retain(|upstream| upstream.strong_count() > 0);
        state.upstreams.push(Arc::downgrade(upstream));
    }
}

/// The endpoints in a file: a YAML (or JSON) list, each as in `endpoints`.
///
/// # Errors
/// The file cannot be read, or what it holds is no list of endpoints that could get a request.
pub fn read_file(path: &Path) -> Result<Vec<Found>, Problem> {
    const LARGEST: u64 = 4 << 20;
    let shown = path.display();
    let remedy = "write a list such as `[127.0.0.1:8080, { address: 127.0.0.1:8081, weight: 2 }]`";
    let size = std::fs::metadata(path).map(|data| if data.is_file() { data.len() } else { u64::MAX });
    if size.as_ref().is_ok_and(|size| *size > LARGEST) {
        return Err(Problem::new(format!("`{shown}` is no file of at most 4MiB")).remedy(remedy));
    }
    let text = size.and_then(|_| std::fs::read_to_string(path)).map_err(|error| {
        Problem::new(format!("`{shown}` cannot be read: {error}"))
            .remedy("a relative path counts from the folder of the configuration file")
    })?;
    let list: Vec<model::Endpoint> = serde_saphyr::from_str(&text).map_err(|error| {
        let error = error.to_string();
        let first = error.lines().next().unwrap_or_default();
        Problem::new(format!("`{shown}` is no list of endpoints: {first}")).remedy(remedy)
    })?;
    if list.iter().all(|endpoint| endpoint.weight == 0) {
        return Err(
            Problem::new(format!("`{shown}` has no endpoint that could get a request")).remedy(remedy)
        );
    }
    if list.len() > MOST_ENDPOINTS {
        return Err(Problem::new(format!("`{shown}` has more than {MOST_ENDPOINTS} endpoints")));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let found = list.into_iter().map(|mut endpoint| {
        if let crate::values::EndpointAddress::Unix(socket) = &mut endpoint.address {
            *socket = folder.join(&*socket);
        }
        Found { endpoint, name: None }
    });
    Ok(found.collect())
}

/// Weights of SRV records (RFC 2782), 0 to 65535, as weights of endpoints, 1 to 1000: the largest
/// becomes at most 1000, and what has none gets the smallest share.
pub fn srv_weights(weights: &[u16]) -> Vec<u16> {
    let largest = weights.iter().copied().max().unwrap_or(0);
    let scale = |weight: u16| match largest {
        0..=1000 => weight,
        largest => (u32::from(weight) * 1000 / u32::from(largest)) as u16,
    };
    weights.iter().map(|weight| scale(*weight).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_records() {
        assert_eq!(srv_weights(&[0, 0]), [1, 1]);
        assert_eq!(srv_weights(&[10, 20, 0]), [10, 20, 1]);
        assert_eq!(srv_weights(&[65535, 32768, 1]), [1000, 500, 1]);
        assert!(srv_weights(&[]).is_empty());
    }

    #[test]
    fn what_a_file_may_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_file(&path)
        };
        let found = read("- 127.0.0.1:1\n- { address: 'unix:x', weight: 2 }\n").unwrap();
        assert_eq!(found[0].endpoint.address.to_string(), "127.0.0.1:1");
        assert_eq!(found[1].endpoint.address.unix(), Some(&*folder.path().join("x")));
        assert_eq!(read("[\"[::1]:1\"]").unwrap().len(), 1, "JSON is YAML");
        for text in ["", "[]", "a: b", "- localhost:1", "- { address: 127.0.0.1:1, weight: 0 }", "- {"] {
            assert!(read(text).unwrap_err().what.contains("list.yaml"), "{text}");
        }
        assert!(read_file(&folder.path().join("none")).is_err());
        assert!(read_file(folder.path()).is_err());
    }
}
