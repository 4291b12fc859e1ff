//! The text side of a login.

use super::seal::{MOST_KEYS, SHORTEST_KEY};
use crate::identity::AdmitConfig;
use crate::identity::client_auth::{ClientAuth, Credentials};
use crate::identity::jwt::Algorithm;
use crate::outbound::CallConfig;
use crate::values::{ConfigPath, Duration, Finding, Problem, Secret, ServiceUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Parameters of a login that the gateway sets itself.
const RESERVED: [&str; 11] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "state",
];
/// The fewest seconds that a session and a login may be given.
const SHORTEST: u64 = 10;

/// Login of people with a browser (OpenID Connect, authorisation code flow with PKCE). The session is
/// in sealed cookies of the browser's; nothing of it is kept here.
///
/// The routes that use it have to include the path of `redirect_uri`, and that of `logout`: both are
/// answered by the gateway.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The issuer, to the byte as its tokens have it. What it says of itself
    /// (`/.well-known/openid-configuration`) is fetched in the background.
    pub issuer: String,
    /// Who the gateway is at the issuer.
    pub client_id: String,
    /// How it proves that. Not for `client_authentication: none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// How the secret is presented: `basic`, `post`, or `none` for a public client. Default `basic`.
    #[serde(default)]
    pub client_authentication: ClientAuthentication,
    /// Where the issuer sends the browser back, such as `https://app.example.com/oauth2/callback`: an
    /// address of the gateway, as registered with the issuer. Its path is the gateway's alone.
    pub redirect_uri: ServiceUrl,
    /// What is asked for. Default: `openid` alone, which is always among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Further parameters of the login, such as `prompt` or `audience`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// How ID tokens may be signed. Default: RS256 and ES256.
    #[serde(default = "usual_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Whether the issuer is asked for more about the user after a login and a refresh. Default false.
    #[serde(default)]
    pub userinfo: bool,
    /// The claims that a session keeps besides `sub`. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Vec<String>>,
    /// Makes consumers of subjects that `consumers` does not list. Default: they are none. Claims that a session does not keep are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admit: Option<AdmitConfig>,
    /// The cookies.
    pub cookies: CookiesConfig,
    /// How long sessions hold.
    #[serde(default)]
    pub session: SessionConfig,
    /// The path where a session is ended. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout: Option<LogoutConfig>,
    /// How the issuer is called.
    #[serde(default)]
    pub call: CallConfig,
}

/// The cookies of a login. On `https` their names get `__Host-` before them; a `redirect_uri` on
/// `http`, which is for loopback alone, leaves that and `Secure` away.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookiesConfig {
    /// What they are sealed with: 1 to 8 secrets of at least 32 characters, such as
    /// `openssl rand -base64 32` makes. The first one seals, all of them open: put a new one first,
    /// and take the old one away once the sessions that it sealed are over.
    #[schemars(length(min = 1, max = 8))]
    pub keys: Vec<Secret>,
    /// What their names begin with. Default: `tollgate-` and the provider's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// How long sessions hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// From the login on, whatever happens. Default 12h.
    pub max_age: Duration,
    /// Without a request. Default 1h.
    pub idle: Duration,
    /// How long before its tokens expire a session is refreshed, where the issuer gave a refresh
    /// token, but not before half of their life; without one it ends with them. Default 1m.
    pub refresh_before: Duration,
    /// How long a login may take. Default 10m.
    pub login: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(12 * 3600),
            idle: Duration::from_secs(3600),
            refresh_before: Duration::from_secs(60),
            login: Duration::from_secs(600),
        }
    }
}

/// Where a session is ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogoutConfig {
    /// The path, such as `/logout`, for a link (GET) or a form (POST) of your own pages. A browser that
    /// another site sent there is asked first.
    pub path: String,
    /// Where the browser goes then; with `provider`, registered with the issuer. Default: the root
    /// of `redirect_uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_to: Option<ServiceUrl>,
    /// Whether the session with the issuer is ended too, where it offers that
    /// (`end_session_endpoint`). Default true.
    #[serde(default = "yes")]
    pub provider: bool,
}

/// How a client secret is presented (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// By `Authorization: Basic`.
    #[default]
    Basic,
    /// In the form.
    Post,
    /// There is no secret.
    None,
}

fn usual_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

const fn yes() -> bool {
    true
}

fn wrong(key: &str, problem: Problem) -> Finding {
    Finding::error(ConfigPath::root().key(key), problem)
}

impl OidcConfig {
    /// The secrets in it, with their paths from the provider.
    pub fn secrets(&mut self) -> Vec<(ConfigPath, &mut Secret)> {
        let root = ConfigPath::root();
        let keys = root.key("cookies").key("keys");
        let client = self.client_secret.iter_mut().map(|secret| (root.key("client_secret"), secret));
        let cookies = self.cookies.keys.iter_mut().enumerate().map(|(at, key)| (keys.index(at), key));
        client.chain(cookies).collect()
    }

    /// All that is wrong with it, with paths from the provider.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        self.check_client(&mut found);
        self.check_addresses(&mut found);
        self.check_cookies(&mut found);
        self.check_times(&mut found);
        found
    }

    fn check_client(&self, found: &mut Vec<Finding>) {
        if self.client_id.is_empty() {
            found.push(wrong("client_id", Problem::new("the client has no name")));
        }
        match (self.client_authentication, &self.client_secret) {
            (ClientAuthentication::None, Some(_)) => found.push(wrong(
                "client_secret",
                Problem::new("a public client has no secret")
                    .remedy("leave it out, or say how it is presented"),
            )),
            (ClientAuthentication::Basic | ClientAuthentication::Post, None) => found.push(wrong(
                "client_secret",
                Problem::new("the client's secret is missing")
                    .remedy("write `${NAME}`, or `client_authentication: none` for a public client"),
            )),
            _ => {}
        }
        if self.algorithms.is_empty() || self.algorithms.iter().any(|algorithm| algorithm.is_symmetric()) {
            let problem = Problem::new("an ID token needs a signature by a key of the issuer's")
                .remedy("list algorithms with public keys, such as RS256 or ES256");
            found.push(wrong("algorithms", problem));
        }
        for name in
            self.parameters.keys().filter(|name| RESERVED.contains(&name.as_str()) || *name == "scope")
        {
            let problem = Problem::new(format!("`{name}` is not a further parameter"))
                .remedy("the gateway sets it itself, some from fields of their own");
            let path = ConfigPath::root().key("parameters").key(name);
            found.push(Finding::error(path, problem));
        }
        let fits = |c: u8| c.is_ascii_graphic() && !matches!(c, b'"' | b'\\');
        for (at, scope) in self.scopes.iter().enumerate() {
            if scope.is_empty() || !scope.bytes().all(fits) {
                let path = ConfigPath::root().key("scopes").index(at);
                let problem =
                    Problem::new(format!("{scope:?} is not a scope")).remedy("write one scope an item");
                found.push(Finding::error(path, problem));
            }
        }
    }

    fn check_addresses(&self, found: &mut Vec<Finding>) {
        if let Err(problem) = self.issuer.parse::<ServiceUrl>() {
            found.push(wrong("issuer", problem));
        }
        let callback = self.redirect_uri.get();
        if callback.path() == "/" || callback.query().is_some() || !is_plain_path(callback.path()) {
            let problem = Problem::new(format!("`{callback}` is not a place to come back to"))
                .remedy("give it a path of its own and no query, such as `/oauth2/callback`");
            found.push(wrong("redirect_uri", problem));
        }
        let Some(logout) = &self.logout else { return };
        if logout.path == callback.path() || logout.path == "/" || !is_plain_path(&logout.path) {
            let problem = Problem::new(format!("`{}` is not a path for logging out", logout.path))
                .remedy("give it one of its own, such as `/logout`");
            let path = ConfigPath::root().key("logout").key("path");
            found.push(Finding::error(path, problem));
        }
    }

    fn check_cookies(&self, found: &mut Vec<Finding>) {
        let path = ConfigPath::root().key("cookies");
        let count = self.cookies.keys.len();
        if count == 0 || count > MOST_KEYS {
            let problem = Problem::new(format!("cookies are sealed with 1 to {MOST_KEYS} keys, not {count}"))
                .remedy("list one, and while it is rotated the old one after it");
            found.push(Finding::error(path.key("keys"), problem));
        }
        for (at, key) in self.cookies.keys.iter().enumerate() {
            if !key.is_empty() && key.expose().chars().count() < SHORTEST_KEY {
                let problem = Problem::new(format!("a key has at least {SHORTEST_KEY} characters"))
                    .remedy("make one with `openssl rand -base64 32`");
                found.push(Finding::error(path.key("keys").index(at), problem));
            } else if key.is_empty() {
                let problem =
                    Problem::new("the key is empty").remedy("make one with `openssl rand -base64 32`");
                found.push(Finding::error(path.key("keys").index(at), problem));
            }
        }
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if let Some(name) = &self.cookies.name
            && !((1..=100).contains(&name.len()) && name.bytes().all(fits))
        {
            let problem = Problem::new(format!("{name:?} is not a name for cookies"))
                .remedy("use 1 to 100 letters, digits, `-` and `_`");
            found.push(Finding::error(path.key("name"), problem));
        }
    }

    fn check_times(&self, found: &mut Vec<Finding>) {
        let SessionConfig { max_age, idle, login, .. } = self.session;
        for (key, time) in [("max_age", max_age), ("idle", idle), ("login", login)] {
            if time.get().as_secs() < SHORTEST {
                let path = ConfigPath::root().key("session").key(key);
                let problem =
                    Problem::new(format!("`{time}` is too short for anybody")).remedy("give it 10s at least");
                found.push(Finding::error(path, problem));
            }
        }
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let auth = match self.client_authentication {
            ClientAuthentication::Basic => ClientAuth::Basic,
            ClientAuthentication::Post => ClientAuth::Post,
            ClientAuthentication::None => return None,
        };
        let secret = self.client_secret.clone()?;
        Some(Credentials { id: self.client_id.clone(), secret, auth })
    }

    /// The scopes, `openid` first, a space between them.
    pub(super) fn scope(&self) -> String {
        let mut scopes = vec!["openid"];
        scopes.extend(self.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        scopes.join(" ")
    }
}

/// True for a path that no normalisation changes, so that it is compared as it stands.
fn is_plain_path(path: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'~');
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(more: &str) -> Vec<String> {
        let yaml = format!(
            "{{ issuer: 'https://id.example.com', client_id: a, client_secret: s, \
               redirect_uri: 'https://app.example.com/oauth2/callback', \
               cookies: {{ keys: [a key that has 32 characters and more] }}, {more} }}"
        );
        let config: OidcConfig = serde_saphyr::from_str(&yaml).unwrap();
        config
            .findings()
            .iter()
            .map(|finding| format!("{}: {}", finding.path, finding.problem.what))
            .collect()
    }

    #[test]
    fn mistakes_have_their_places() {
        for (more, expected) in [
            ("", ""),
            ("client_authentication: none", "client_secret: a public client has no secret"),
            ("algorithms: []", "algorithms: an ID token needs a signature by a key of the issuer's"),
            (
                "algorithms: [RS256, HS256]",
                "algorithms: an ID token needs a signature by a key of the issuer's",
            ),
            ("parameters: { state: x }", "parameters.state: `state` is not a further parameter"),
            ("scopes: [openid, a b]", "scopes[1]: \"a b\" is not a scope"),
            ("session: { idle: 1s }", "session.idle: `1s` is too short for anybody"),
            ("logout: { path: /a/../b }", "logout.path: `/a/../b` is not a path for logging out"),
            (
                "logout: { path: /oauth2/callback }",
                "logout.path: `/oauth2/callback` is not a path for logging out",
            ),
            ("logout: { path: / }", "logout.path: `/` is not a path for logging out"),
        ] {
            let expected: Vec<&str> = Some(expected).filter(|text| !text.is_empty()).into_iter().collect();
            assert_eq!(findings(more), expected, "{more}");
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let yaml = "{ issuer: 'http://id.example.com', client_id: '', redirect_uri: 'http://localhost:8080/', \
                      cookies: { keys: [short, ''], name: 'a b' } }";
        let config: OidcConfig = serde_saphyr::from_str(yaml).unwrap();
        let paths: Vec<String> = config.findings().iter().map(|finding| finding.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "client_id",
                "client_secret",
                "issuer",
                "redirect_uri",
                "cookies.keys[0]",
                "cookies.keys[1]",
                "cookies.name"
            ]
        );
        let many = format!("[{}]", ["a key that has 32 characters and more"; 9].join(", "));
        for keys in ["[]", &many] {
            let yaml = format!(
                "{{ issuer: 'https://id.example.com', client_id: a, client_authentication: none, \
                   redirect_uri: 'https://app.example.com/callback', cookies: {{ keys: {keys} }} }}"
            );
            let config: OidcConfig = serde_saphyr::from_str(&yaml).unwrap();
            let paths: Vec<String> =
                config.findings().iter().map(|finding| finding.path.to_string()).collect();
            assert_eq!(paths, ["cookies.keys"]);
        }
    }
}
