use super::now;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Signs requests with a shared secret, by RFC 9421 and simply, without the gateway's code.
pub struct Signer {
    /// The secret.
    pub secret: &'static str,
    /// Its name.
    pub key: &'static str,
    /// The host that requests are for.
    pub host: &'static str,
}

impl Signer {
    fn sign(&self, text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        STANDARD.encode(hmac::sign(&key, text.as_bytes()))
    }

    /// The `content-digest` of a body.
    pub fn digest(body: &[u8]) -> String {
        format!("sha-256=:{}:", STANDARD.encode(digest::digest(&digest::SHA256, body)))
    }

    /// Header lines of a request that is signed now, with a nonce; a body is covered by its digest.
    pub fn fields(&self, method: &str, target: &str, nonce: &str, body: Option<&[u8]>) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut covered = String::from(r#""@method" "@authority" "@path" "@query""#);
        let mut base = format!(
            "\"@method\": {method}\n\"@authority\": {}\n\"@path\": {path}\n\"@query\": ?{query}\n",
            self.host
        );
        let mut fields = String::new();
        if let Some(body) = body {
            let digest = Self::digest(body);
            covered += r#" "content-digest""#;
            base += &format!("\"content-digest\": {digest}\n");
            fields = format!("content-digest: {digest}\r\n");
        }
        let params = format!("({covered});created={};keyid=\"{}\";nonce=\"{nonce}\"", now(), self.key);
        base += &format!("\"@signature-params\": {params}");
        format!("{fields}signature-input: sig={params}\r\nsignature: sig=:{}:\r\n", self.sign(&base))
    }

    /// Header lines of a request that is signed simply, with this date.
    pub fn simply(&self, method: &str, target: &str, date: &str, body: Option<&[u8]>) -> String {
        let digest = body.map(Self::digest).unwrap_or_default();
        let signature = self.sign(&format!("{method}\n{target}\n{}\n{date}\n{digest}\n", self.host));
        let field = if digest.is_empty() { String::new() } else { format!("content-digest: {digest}\r\n") };
        let key = self.key;
        format!(
            "date: {date}\r\n{field}authorization: HMAC-SHA256 keyid=\"{key}\", signature=\"{signature}\"\r\n"
        )
    }

    /// The date as HTTP writes it, so many seconds from now.
    pub fn date(from_now: i64) -> String {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(from_now);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    }
}
