//! Digests that a request gives of its body (`Content-Digest`, RFC 9530).

use aws_lc_rs::digest;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;
use sfv::{BareItem, ListEntry, ParseMore as _, Parser};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A digest that can be checked.
#[derive(Debug)]
pub struct Given {
    algorithm: &'static digest::Algorithm,
    value: Vec<u8>,
}

/// The field cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Given {
    /// True if it is the digest of this body.
    pub fn is_of(&self, body: &[u8]) -> bool {
        digest::digest(self.algorithm, body).as_ref() == self.value
    }

    /// By which algorithm.
    pub const fn algorithm(&self) -> &'static digest::Algorithm {
        self.algorithm
    }
}

/// The digests that can be checked, from a dictionary of byte sequences (RFC 9530 section 2).
///
/// # Errors
/// It is none.
pub fn given(head: &RequestHeader) -> Result<Vec<Given>, Malformed> {
    let mut lines = head.headers.get_all(CONTENT_DIGEST).iter().map(HeaderValue::as_bytes);
    let Some(first) = lines.next() else { return Ok(Vec::new()) };
    let mut dictionary = Parser::parse_dictionary(first).map_err(|_| Malformed)?;
    for line in lines {
        dictionary.parse_more(line).map_err(|_| Malformed)?;
    }
    let mut given = Vec::new();
    for (name, entry) in &dictionary {
        let algorithm = match name.as_str() {
            "sha-256" => &digest::SHA256,
            "sha-512" => &digest::SHA512,
            _ => continue,
        };
        let ListEntry::Item(item) = entry else { return Err(Malformed) };
        let BareItem::ByteSeq(value) = &item.bare_item else { return Err(Malformed) };
        given.push(Given { algorithm, value: value.clone() });
    }
    Ok(given)
}

/// True if the head says that a body comes.
pub fn announces_body(head: &RequestHeader) -> bool {
    let length = head.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    length.is_some_and(|length| length.iter().any(|digit| *digit != b'0'))
        || head.headers.contains_key(TRANSFER_ENCODING)
}
