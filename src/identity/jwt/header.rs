//! The header of a token (RFC 7515 section 4.1, RFC 8725 section 3).

use super::Algorithm;
use crate::identity::cause::{Cause, Refused};
use serde_json::{Map, Value};

/// A token's header, as far as it decides anything. Whatever else stands there (`jwk`, `jku`, `x5u`,
/// `x5c`) is not looked at: a key that comes with the token proves nothing.
#[derive(Debug)]
pub(super) struct Header {
    pub algorithm: Algorithm,
    pub kid: Option<Box<str>>,
}

/// What a provider expects of the headers of its tokens.
#[derive(Debug)]
pub(super) struct Rules {
    pub algorithms: Box<[Algorithm]>,
    pub kind: Option<Box<str>>,
}

impl Rules {
    /// Reads the header.
    pub fn read(&self, header: &Map<String, Value>) -> Result<Header, Refused> {
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => {
                let known = Algorithm::from_name(name).filter(|known| self.algorithms.contains(known));
                known.ok_or_else(|| Cause::AlgorithmNotAllowed.with(format!("alg={name:?}")))?
            }
            _ => return Err(Cause::Malformed.with("`alg` is no text")),
        };
        // We understand no extension, so whatever must be understood is not (RFC 7515, section 4.1.11).
        if header.contains_key("crit") {
            return Err(Cause::Critical.with("`crit` is there"));
        }
        // Of an encrypted token, or of another kind of payload (RFC 7797).
        if let Some(name) = ["enc", "zip", "b64"].into_iter().find(|name| header.contains_key(*name)) {
            return Err(Cause::Malformed.with(format!("`{name}` is there")));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str().into()),
            Some(_) => return Err(Cause::Malformed.with("`kid` is no text")),
        };
        self.check_kind(header.get("typ"))?;
        Ok(Header { algorithm, kid })
    }

    fn check_kind(&self, typ: Option<&Value>) -> Result<(), Refused> {
        let said = match typ {
            None => None,
            Some(Value::String(typ)) => Some(typ.as_str()),
            Some(_) => return Err(Cause::Malformed.with("`typ` is no text")),
        };
        let Some(expected) = &self.kind else { return Ok(()) };
        // A media type, whose case does not count, and which may leave this out (RFC 7515, section 4.1.9).
        let short = |typ: &str| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map_or_else(|| typ.clone(), str::to_owned)
        };
        if said.is_some_and(|said| short(said) == short(expected)) {
            return Ok(());
        }
        Err(Cause::WrongType.with(format!("typ={said:?}")))
    }
}
