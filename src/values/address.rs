use super::{Problem, text_value};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

/// Where an endpoint listens: an IP address with a port, such as `127.0.0.1:8080` or `[::1]:8080`,
/// or a Unix socket, such as `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// An IP address with a port.
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl EndpointAddress {
    /// The longest path of a Unix socket, in bytes (`sun_path` of Linux, with its final zero).
    pub const LONGEST_PATH: usize = 107;

    /// The IP address with its port, unless it is a Unix socket.
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of a Unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Inet(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl FromStr for EndpointAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(Problem::new("`unix:` names no socket").remedy("write it as `unix:/run/app.sock`")),
                path => Ok(Self::Unix(path.into())),
            };
        }
        text.parse().map(Self::Inet).map_err(|_| {
            let problem = Problem::new(format!("`{text}` is not an address with a port"));
            match looks_like_name(text) {
                true => problem.remedy(format!("for a name, write `discover: {{ dns: \"{text}\" }}`")),
                false => problem.remedy("write it as `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/app.sock`"),
            }
        })
    }
}

/// A name of the DNS with a port.
fn looks_like_name(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(name, port)| {
        name.contains(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
            && port.parse::<u16>().is_ok()
    })
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

text_value!(
    EndpointAddress,
    "^(unix:.+|.+:[0-9]+)$",
    "an address with a port, or `unix:` and the path of a socket",
    ["127.0.0.1:8080", "unix:/run/app.sock"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/app.sock", "unix:run/app.sock"] {
            assert_eq!(text.parse::<EndpointAddress>().unwrap().to_string(), text);
        }
        for text in ["", "127.0.0.1", ":80", "unix:", "127.0.0.1:70000", "a b:80"] {
            assert!(text.parse::<EndpointAddress>().is_err(), "{text}");
        }
    }
}
