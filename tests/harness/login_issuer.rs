use super::origin::Received;
use super::{Answer, Client, Origin, answer};
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a test changes of the issuer's ways.
pub type Change = Box<dyn Fn(&mut Value) + Send>;

/// An issuer of OpenID Connect for the client `gateway` with the secret `s3cr+t`: it logs in whom the
/// test names, without forms, and holds the gateway to the protocol.
pub struct LoginIssuer {
    origin: Origin,
    state: Arc<Mutex<State>>,
}

struct State {
    key: EcdsaKeyPair,
    /// What each code was given for.
    codes: HashMap<String, BTreeMap<String, String>>,
    /// Whose each refresh token is; one that was spent stays, as nobody's.
    refresh: HashMap<String, Option<(String, String)>>,
    issued: usize,
    /// Seconds.
    access_life: Value,
    claims: Change,
    answer: Change,
    metadata: Change,
    down: bool,
    /// What was granted, and refused, in order.
    log: Vec<String>,
}

impl LoginIssuer {
    /// Starts one.
    pub fn start() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let state = Arc::new(Mutex::new(State {
            key,
            codes: HashMap::new(),
            refresh: HashMap::new(),
            issued: 0,
            access_life: json!(300),
            claims: Box::new(|_| {}),
            answer: Box::new(|_| {}),
            metadata: Box::new(|_| {}),
            down: false,
            log: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let origin =
            Origin::start(move |request, stream| respond(&mut shared.lock().unwrap(), request, stream));
        Self { origin, state }
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    /// Logs this user in, as an authorisation endpoint would: the query that the browser comes back
    /// with.
    pub fn log_in(&self, location: &str, user: &str) -> String {
        let url = url::Url::parse(location).unwrap();
        assert!(location.starts_with(&format!("{}/authorize?", self.name())), "{location}");
        let mut asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], "gateway");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
        assert!(asked["state"].len() >= 22 && asked["nonce"].len() >= 22, "128 bits each");
        asked.insert("user".into(), user.into());
        let mut state = self.state.lock().unwrap();
        state.issued += 1;
        let code = format!("code-{}", state.issued);
        let back = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &asked["state"])
            .append_pair("iss", &self.name())
            .finish();
        state.codes.insert(code, asked);
        back
    }

    /// How long tokens hold from now on, as the token endpoint says it.
    pub fn tokens_live(&self, life: Value) {
        self.state.lock().unwrap().access_life = life;
    }

    /// Changes the claims of ID tokens before they are signed.
    pub fn change_claims(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.state.lock().unwrap().claims = Box::new(change);
    }

    /// Changes the answers of the token endpoint.
    pub fn change_answer(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.state.lock().unwrap().answer = Box::new(change);
    }

    /// Changes what the issuer says of itself.
    pub fn change_metadata(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.state.lock().unwrap().metadata = Box::new(change);
    }

    /// Knows no refresh token any more.
    pub fn forget_refresh_tokens(&self) {
        self.state.lock().unwrap().refresh.clear();
    }

    /// Answers nothing but 503 from now on, or is back.
    pub fn is_down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    /// What the token endpoint granted and refused so far, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

fn respond(state: &mut State, request: &Received, stream: &mut TcpStream) -> bool {
    let issuer = format!("http://{}", request.field("host").unwrap_or_default());
    let (status, body) = match request.target() {
        _ if state.down => ("503 Service Unavailable", json!({})),
        "/.well-known/openid-configuration" => ("200 OK", metadata(state, &issuer)),
        "/jwks" => ("200 OK", json!({ "keys": [state.jwk()] })),
        "/token" => state.token(&issuer, request),
        "/userinfo" => ("200 OK", json!({ "sub": "ann", "name": "Ann of userinfo", "email": "unsigned" })),
        _ => ("404 Not Found", json!({})),
    };
    let fields = "content-type: application/json\r\ncache-control: no-store\r\n";
    stream.write_all(&answer(status, fields, &body.to_string())).is_ok()
}

fn metadata(state: &State, issuer: &str) -> Value {
    let mut metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "end_session_endpoint": format!("{issuer}/end"),
        "jwks_uri": format!("{issuer}/jwks"),
        "authorization_response_iss_parameter_supported": true,
    });
    (state.metadata)(&mut metadata);
    metadata
}

impl State {
    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({ "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", "x": part(1), "y": part(33) })
    }

    fn token(&mut self, issuer: &str, request: &Received) -> (&'static str, Value) {
        let expected = format!("Basic {}", STANDARD.encode("gateway:s3cr%2Bt"));
        if request.field("authorization") != Some(&expected) {
            self.log.push("refused client".into());
            return ("401 Unauthorized", json!({ "error": "invalid_client" }));
        }
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(&request.body).into_owned().collect();
        let granted = match form["grant_type"].as_str() {
            "authorization_code" => self.by_code(&form),
            "refresh_token" => self.by_refresh(&form),
            _ => None,
        };
        let Some((user, nonce)) = granted else {
            self.log.push(format!("refused {}", form["grant_type"]));
            return ("400 Bad Request", json!({ "error": "invalid_grant" }));
        };
        self.log.push(format!("granted {} {user}", form["grant_type"]));
        self.issued += 1;
        let (access, refresh) = (format!("access-{}", self.issued), format!("refresh-{}", self.issued));
        self.refresh.insert(refresh.clone(), Some((user.clone(), nonce.clone())));
        let hash = digest::digest(&digest::SHA256, access.as_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": issuer, "aud": "gateway", "sub": user, "iat": now, "exp": now + 300, "nonce": nonce,
            "at_hash": URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]), "email": format!("{user}@example.com"),
        });
        (self.claims)(&mut claims);
        let mut answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": self.access_life,
            "refresh_token": refresh, "id_token": self.sign(&claims),
        });
        (self.answer)(&mut answer);
        ("200 OK", answer)
    }

    fn by_code(&mut self, form: &BTreeMap<String, String>) -> Option<(String, String)> {
        let asked = self.codes.remove(&form["code"])?;
        let challenge =
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, form["code_verifier"].as_bytes()));
        let fits = challenge == asked["code_challenge"] && form["redirect_uri"] == asked["redirect_uri"];
        fits.then(|| (asked["user"].clone(), asked["nonce"].clone()))
    }

    /// A refresh token that comes twice was stolen: nobody keeps one (RFC 9700 section 4.14.2).
    fn by_refresh(&mut self, form: &BTreeMap<String, String>) -> Option<(String, String)> {
        let granted = self.refresh.get_mut(&form["refresh_token"])?.take();
        if granted.is_none() {
            self.refresh.clear();
        }
        granted
    }

    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": "one" })), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// What a browser is to a gateway: it keeps cookies, and asks for pages.
#[derive(Clone)]
pub struct Visitor {
    address: SocketAddr,
    /// By name.
    pub cookies: BTreeMap<String, String>,
}

impl Visitor {
    /// One without cookies.
    pub fn of(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new() }
    }

    /// Opens a page.
    pub fn open(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "accept: text/html\r\nsec-fetch-mode: navigate\r\nsec-fetch-site: none\r\n")
    }

    /// Asks as a script of the page does.
    pub fn fetch(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "accept: */*\r\nsec-fetch-mode: cors\r\nsec-fetch-site: same-origin\r\n")
    }

    /// Asks, with these header lines, and keeps the cookies of the answer.
    pub fn ask(&mut self, method: &str, target: &str, fields: &str) -> Answer {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookie =
            if pairs.is_empty() { String::new() } else { format!("cookie: {}\r\n", pairs.join("; ")) };
        let host = format!("localhost:{}", self.address.port());
        let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
        let answer = Client::new(self.address)
            .send(format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{cookie}{fields}{length}\r\n"));
        for set in answer.fields("set-cookie") {
            let cookie = cookie::Cookie::parse(set.to_owned()).unwrap();
            match cookie.max_age().is_some_and(cookie::time::SignedDuration::is_zero) {
                true => drop(self.cookies.remove(cookie.name())),
                false => drop(self.cookies.insert(cookie.name().into(), cookie.value().into())),
            }
        }
        answer
    }

    /// Opens a page, is sent to the issuer, logs in as this user, and comes back: where to.
    pub fn log_in(&mut self, issuer: &LoginIssuer, target: &str, user: &str) -> String {
        let sent = self.open(target);
        assert_eq!(sent.status, 302, "{sent:?}");
        let back = issuer.log_in(sent.field("location").unwrap(), user);
        let answer = self.open(&format!("/oauth2/callback?{back}"));
        assert_eq!(answer.status, 302, "{}", answer.text());
        answer.field("location").unwrap().to_owned()
    }
}
