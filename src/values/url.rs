use super::{Problem, text_value};
use std::{fmt, str::FromStr, sync::Arc};
use url::{Host, Url};

/// The longest address, in bytes.
const LONGEST: usize = 2048;

/// The address of a service that the gateway calls for itself: `https`, or `http` on loopback,
/// where there is no wire to listen on. No user, password or fragment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceUrl(Arc<Url>);

impl ServiceUrl {
    /// The address as the `url` crate has it.
    pub fn get(&self) -> &Url {
        &self.0
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ServiceUrl {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        // What stands before `@` may be a password.
        let shown: String = text.rsplit('@').next().unwrap_or_default().chars().take(80).collect();
        let wrong = |why: &str, remedy: &str| {
            Err(Problem::new(format!("`{shown}` is not the address of a service: {why}")).remedy(remedy))
        };
        const FORM: &str = "write it as `https://id.example.com/keys`";
        if text.len() > LONGEST {
            return wrong("it is longer than 2048 bytes", FORM);
        }
        let Ok(url) = text.parse::<Url>() else {
            return wrong("it is no URL", FORM);
        };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("it holds a user or a password", "give credentials in fields of their own");
        }
        if url.fragment().is_some() {
            return wrong("it has a fragment", "leave out what follows `#`");
        }
        match url.scheme() {
            "https" => Ok(Self(Arc::new(url))),
            "http" if is_loopback(&url) => Ok(Self(Arc::new(url))),
            "http" => wrong(
                "it is `http`, and not on this machine",
                "write `https://…`; plain `http` is for 127.0.0.1, [::1] and localhost",
            ),
            _ => wrong("its scheme is neither `https` nor `http`", FORM),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

text_value!(
    ServiceUrl,
    "^https?://",
    "an address of a service: `https://…`, or `http://…` on loopback",
    ["https://id.example.com/keys"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services() {
        for text in [
            "https://id.example.com/keys",
            "https://192.0.2.7:8443/a?b=c",
            "http://127.0.0.1:9103/",
            "http://[::1]:9103/",
            "http://localhost:9103/keys",
        ] {
            let url: ServiceUrl = text.parse().unwrap();
            assert_eq!(url.as_str(), text);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "id.example.com",
            "/keys",
            "http://id.example.com/keys",
            "http://192.0.2.7/keys",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "ftp://id.example.com/",
            "file:///etc/passwd",
            "https://user@id.example.com/",
            "https://user:secret@id.example.com/",
            "https://id.example.com/#keys",
        ] {
            assert!(text.parse::<ServiceUrl>().is_err(), "{text}");
        }
        assert!(format!("https://id.example.com/{}", "a".repeat(2048)).parse::<ServiceUrl>().is_err());
    }

    #[test]
    fn a_password_is_not_repeated() {
        let problem = "https://user:secret@id.example.com/".parse::<ServiceUrl>().unwrap_err();
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}
