use super::{Origin, answer, origin::Received};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How an issuer answers.
#[derive(Clone, Debug)]
pub enum Mood {
    /// As it should.
    Good,
    /// Not at all: the connection ends.
    Down,
    /// As it should, after this long.
    Slow(Duration),
    /// With this, whatever was asked.
    Garbage(&'static str),
}

/// An issuer of tokens on a real socket: keys, metadata, introspection, a token endpoint. Its keys
/// rotate when a test says so. Signatures are another library's than the gateway's.
pub struct Issuer {
    origin: Origin,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    keys: Vec<Key>,
    /// The names of the keys that are published.
    published: Vec<String>,
    /// What is told of opaque tokens.
    opaque: BTreeMap<String, Value>,
    /// What is granted at the token endpoint lives so many seconds.
    lifetime: u64,
    granted: usize,
}

struct Key {
    kid: String,
    pair: EcdsaKeyPair,
}

impl Issuer {
    /// An issuer with one published key.
    pub fn start() -> Self {
        let state = State {
            mood: Mood::Good,
            keys: Vec::new(),
            published: Vec::new(),
            opaque: BTreeMap::new(),
            lifetime: 3600,
            granted: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let answering = Arc::clone(&state);
        let origin = Origin::start(move |request, stream| respond(&answering, request, stream));
        let issuer = Self { origin, state };
        let kid = issuer.new_key();
        issuer.publish(&[&kid]);
        issuer
    }

    /// Its name.
    pub fn url(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    /// Makes a key, which is not published yet; its name.
    pub fn new_key(&self) -> String {
        let mut state = self.state.lock().unwrap();
        let kid = format!("key-{}", state.keys.len() + 1);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        state.keys.push(Key { kid: kid.clone(), pair });
        kid
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, kids: &[&str]) {
        self.state.lock().unwrap().published = kids.iter().map(|kid| (*kid).to_owned()).collect();
    }

    /// Answers in this way from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Tokens of the token endpoint live so many seconds from now on.
    pub fn set_lifetime(&self, seconds: u64) {
        self.state.lock().unwrap().lifetime = seconds;
    }

    /// What is told of an opaque token.
    pub fn tell(&self, token: &str, what: &Value) {
        self.state.lock().unwrap().opaque.insert(token.to_owned(), what.clone());
    }

    /// A token by this key for the audience `api`, with these claims over the usual ones.
    pub fn token_by(&self, kid: &str, claims: &Value) -> String {
        let mut all = json!({ "iss": self.url(), "aud": "api", "sub": "alice", "exp": now() + 600 });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let state = self.state.lock().unwrap();
        let key = state.keys.iter().find(|key| key.kid == kid).unwrap();
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        let private = EncodingKey::from_ec_der(key.pair.to_pkcs8v1().unwrap().as_ref());
        jsonwebtoken::encode(&header, &all, &private).unwrap()
    }

    /// A token by the first key.
    pub fn token(&self, claims: &Value) -> String {
        self.token_by("key-1", claims)
    }

    /// The requests for a path so far.
    pub fn asked(&self, path: &str) -> Vec<Received> {
        let mut received = self.origin.received();
        received.retain(|request| request.target() == path);
        received
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

impl Key {
    fn jwk(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y })
    }
}

fn respond(state: &Mutex<State>, request: &Received, stream: &mut TcpStream) -> bool {
    let mood = state.lock().unwrap().mood.clone();
    match mood {
        Mood::Good => {}
        Mood::Down => return false,
        Mood::Slow(time) => std::thread::park_timeout(time),
        Mood::Garbage(text) => return stream.write_all(&answer("200 OK", "", text)).is_ok(),
    }
    let (status, body) = good(&mut state.lock().unwrap(), request);
    stream.write_all(&answer(status, "content-type: application/json\r\n", &body.to_string())).is_ok()
}

fn good(state: &mut State, request: &Received) -> (&'static str, Value) {
    let host = request.field("host").unwrap_or_default();
    let form: BTreeMap<String, String> =
        url::form_urlencoded::parse(&request.body).map(|(name, value)| (name.into(), value.into())).collect();
    match request.target() {
        "/.well-known/openid-configuration" => {
            let url = format!("http://{host}");
            ("200 OK", json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }))
        }
        "/keys" => {
            let published = state.keys.iter().filter(|key| state.published.contains(&key.kid));
            ("200 OK", json!({ "keys": published.map(Key::jwk).collect::<Vec<_>>() }))
        }
        "/introspect" => {
            let known = form.get("token").and_then(|token| state.opaque.get(token));
            ("200 OK", known.cloned().unwrap_or_else(|| json!({ "active": false })))
        }
        "/token" => {
            // A token that nobody may exchange, for the tests.
            if form.get("subject_token").is_some_and(|token| token.contains("refuse")) {
                return ("400 Bad Request", json!({ "error": "invalid_grant" }));
            }
            state.granted += 1;
            let token = format!("granted-{}", state.granted);
            ("200 OK", json!({ "access_token": token, "token_type": "Bearer", "expires_in": state.lifetime }))
        }
        _ => ("404 Not Found", json!({})),
    }
}
