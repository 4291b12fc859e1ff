use crate::values::{ConfigPath, Duration, Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::path::PathBuf;
use std::{fmt, str::FromStr};

/// What several gateways share, outside of them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreConfig {
    /// A Redis server, or what speaks its protocol, such as Valkey.
    Redis(Box<RedisConfig>),
}

/// A Redis server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// A name or IP address with a port, such as `redis.internal:6379`, or `unix:` and the path of a
    /// socket. A name is looked up at each connect.
    pub address: StoreAddress,
    /// The number of the database, 0 to 65535. Default 0.
    #[serde(default)]
    pub database: u16,
    /// Whom to log in as. Default: nobody, which is the user `default` where there is a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// TLS. Default: in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// For each call, 1ms to 10s; what is not answered by then has failed. Default 5ms.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// For connecting, with its look-up, handshake and login, 1ms to 1m. Default 1s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Duration,
    /// What all keys begin with, 1 to 64 letters, digits and `.`, `_`, `-`, `{`, `}`; a `:` follows it.
    /// Gateways that are to share have the same one. Default `tollgate`.
    #[serde(default = "prefix")]
    pub prefix: String,
}

/// TLS to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTls {
    /// The name that is asked for and that the certificate must be for. Default: that of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// A PEM file of the authorities that may issue the certificate. Default: those of the operating
    /// system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What is shown if the server asks who we are. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<RedisClientCertificate>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisClientCertificate {
    /// A PEM file: the certificate, then the ones between it and the authority.
    pub certificate: PathBuf,
    /// A PEM file with its private key.
    pub key: PathBuf,
}

const fn timeout() -> Duration {
    Duration::from_millis(5)
}

const fn connect_timeout() -> Duration {
    Duration::from_secs(1)
}

fn prefix() -> String {
    "tollgate".to_owned()
}

/// Where a store listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// A name or an IP address, and a port.
    Inet(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl StoreAddress {
    /// True if what goes there leaves this machine.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Inet(host, _) => {
                host != "localhost"
                    && host.parse().map_or(true, |ip: std::net::IpAddr| !ip.to_canonical().is_loopback())
            }
        }
    }
}

impl FromStr for StoreAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let shown: String = text.rsplit('@').next().unwrap_or_default().chars().take(80).collect();
        let wrong = |remedy: &str| {
            Err(Problem::new(format!("`{shown}` is not an address with a port")).remedy(remedy))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => wrong("write it as `unix:/run/redis.sock`"),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if text.contains("://") {
            return wrong(
                "leave out the scheme: write `redis.internal:6379`, and `tls: {}` beside it for `rediss`",
            );
        }
        const FORM: &str =
            "write it as `127.0.0.1:6379`, `[::1]:6379`, `redis.internal:6379` or `unix:/run/redis.sock`";
        let Some((host, port)) = text.rsplit_once(':') else { return wrong(FORM) };
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_name = |name: &str| {
            (1..=253).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
        };
        let host = match inner {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if is_name(host) => host,
            _ => return wrong(FORM),
        };
        match port.bytes().all(|c| c.is_ascii_digit()).then(|| port.parse()) {
            Some(Ok(port)) if port > 0 => Ok(Self::Inet(host.to_owned(), port)),
            _ => wrong(FORM),
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Inet(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for StoreAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = StoreAddress;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with a port, such as `redis.internal:6379`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StoreAddress, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Serialize for StoreAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for StoreAddress {
    fn schema_name() -> Cow<'static, str> {
        "StoreAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(unix:.+|[^/]+:[0-9]+)$",
            "description": "a name or IP address with a port, or `unix:` and the path of a socket",
            "examples": ["redis.internal:6379", "unix:/run/redis.sock"],
        })
    }
}

impl StoreConfig {
    /// The secrets in it, with their paths from the store's name.
    pub fn secrets(&mut self) -> Vec<(ConfigPath, &mut Secret)> {
        let Self::Redis(redis) = self;
        let path = || ConfigPath::root().key("redis").key("password");
        redis.password.iter_mut().map(|secret| (path(), secret)).collect()
    }

    /// The paths of files that are read when it is compiled.
    pub fn files(&mut self) -> Vec<&mut PathBuf> {
        let Self::Redis(redis) = self;
        let Some(tls) = &mut redis.tls else { return Vec::new() };
        let pair = tls.client.iter_mut().flat_map(|pair| [&mut pair.certificate, &mut pair.key]);
        tls.ca.iter_mut().chain(pair).collect()
    }

    /// The path of its socket, if it has one.
    pub fn socket(&mut self) -> Option<&mut PathBuf> {
        let Self::Redis(redis) = self;
        match &mut redis.address {
            StoreAddress::Unix(path) => Some(path),
            StoreAddress::Inet(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for (text, remote) in [
            ("127.0.0.1:6379", false),
            ("[::1]:6379", false),
            ("localhost:6379", false),
            ("192.0.2.7:6379", true),
            ("redis.internal:6379", true),
            ("unix:/run/redis.sock", false),
        ] {
            let address: StoreAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_remote()), (text, remote));
        }
        for text in [
            "",
            ":6379",
            "redis",
            "redis:",
            "redis:0",
            "redis:+1",
            "redis:70000",
            "unix:",
            "::1:6379",
            "[::1:6379",
            "[redis]:6379",
            "a b:6379",
            "redis://127.0.0.1:6379",
        ] {
            assert!(text.parse::<StoreAddress>().is_err(), "{text}");
        }
        let told = "redis://user:secret@127.0.0.1:6379".parse::<StoreAddress>().unwrap_err();
        assert!(!told.to_string().contains("secret"), "{told}");
    }
}
