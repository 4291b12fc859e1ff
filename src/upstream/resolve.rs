//! Questions to the DNS.

use super::discovery::{Found, Source, srv_weights};
use crate::config::model::dns::{Dns, Family};
use crate::config::model::upstream::Endpoint;
use crate::values::EndpointAddress;
use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, rdata::SRV};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most targets of one answer that are looked for.
const MOST_TARGETS: usize = 256;

/// Endpoints, and how long that holds.
pub type Answer = (Vec<Found>, Duration);

/// Asks name servers.
pub struct Asker {
    resolver: TokioResolver,
}

impl Asker {
    /// Asks the name servers of the configuration, or those of the operating system.
    ///
    /// # Errors
    /// The operating system's cannot be read.
    pub fn new(dns: &Dns) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if dns.nameservers.is_empty() {
            TokioResolver::builder(provider).map_err(|error| format!("the system's name servers: {error}"))?
        } else {
            let server = |address: &SocketAddr| {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                server.connections.iter_mut().for_each(|connection| connection.port = address.port());
                server
            };
            let servers = dns.nameservers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, provider)
        };
        let options = builder.options_mut();
        options.timeout = dns.timeout.get();
        options.attempts = 2;
        // The times to live are kept by whoever asks.
        options.cache_size = 0;
        options.ip_strategy = match dns.family {
            Family::Any => LookupIpStrategy::Ipv4AndIpv6,
            Family::Ipv4 => LookupIpStrategy::Ipv4Only,
            Family::Ipv6 => LookupIpStrategy::Ipv6Only,
        };
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver })
    }

    /// What a source says now.
    ///
    /// # Errors
    /// It has nothing, or nobody could say.
    pub async fn ask(&self, source: &Source) -> Result<Answer, String> {
        match source {
            Source::Dns { name, port, .. } => self.addresses(name, *port).await,
            Source::Srv { name, .. } => self.services(name).await,
            Source::File(_) => Err("a file is not asked for".to_owned()),
        }
    }

    /// The addresses of a name, with a port.
    ///
    /// # Errors
    /// There are none, or nobody could say.
    async fn addresses(&self, name: &str, port: u16) -> Result<Answer, String> {
        let found = self.resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let name: Arc<str> = name.into();
        let endpoint = |ip| Found {
            endpoint: Endpoint {
                address: EndpointAddress::Inet(SocketAddr::new(ip, port)),
                weight: 1,
                priority: 0,
            },
            name: Some(Arc::clone(&name)),
        };
        let endpoints: Vec<Found> = found.iter().map(endpoint).collect();
        let left = found.valid_until().saturating_duration_since(Instant::now());
        if endpoints.is_empty() { Err("the name has no address".to_owned()) } else { Ok((endpoints, left)) }
    }

    /// The services of a name: targets of the most preferred priority that have an address, with
    /// their ports and weights.
    ///
    /// # Errors
    /// There are none, or nobody could say.
    async fn services(&self, name: &str) -> Result<Answer, String> {
        let found = self.resolver.srv_lookup(name).await.map_err(|error| error.to_string())?;
        let mut left = found.valid_until().saturating_duration_since(Instant::now());
        let mut services: Vec<&SRV> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) => Some(service),
                _ => None,
            })
            // A single `.` says that there is no such service.
            .filter(|service| !service.target.is_root())
            .collect();
        let best = services.iter().map(|service| service.priority).min();
        services.retain(|service| Some(service.priority) == best);
        services.truncate(MOST_TARGETS);
        let weights = srv_weights(&services.iter().map(|service| service.weight).collect::<Vec<_>>());
        let asked = services.iter().map(|service| async move {
            let target = service.target.to_ascii();
            self.addresses(&target, service.port).await
        });
        let mut endpoints = Vec::new();
        let mut failure = "the name has no service".to_owned();
        for (answer, weight) in join_all(asked).await.into_iter().zip(weights) {
            match answer {
                Ok((found, valid)) => {
                    left = left.min(valid);
                    endpoints.extend(found.into_iter().map(|mut found| {
                        found.endpoint.weight = weight;
                        found
                    }));
                }
                Err(error) => failure = error,
            }
        }
        if endpoints.is_empty() { Err(failure) } else { Ok((endpoints, left)) }
    }
}
