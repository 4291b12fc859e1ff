//! Distinguished names as text (RFC 4514), in one form only, so that equal texts mean equal names.

use crate::values::Problem;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use x509_parser::asn1_rs::ToDer as _;
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

/// A distinguished name by RFC 4514: the last of the certificate's parts first, commas between them,
/// what could be taken for syntax escaped. A name has one such text and no other one has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName(Box<str>);

/// The short names of RFC 4514 section 3, and those besides that OpenSSL prints.
const TYPES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("serialNumber", "2.5.4.5"),
    ("SN", "2.5.4.4"),
    ("GN", "2.5.4.42"),
    ("title", "2.5.4.12"),
];

impl DistinguishedName {
    /// The name of a certificate's subject.
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let mut parts: Vec<String> =
            name.iter().map(|part| join(part.iter().map(attribute).collect())).collect();
        parts.reverse();
        Self(parts.join(",").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The attributes of one part; they are a set, so their order means nothing.
fn join(mut attributes: Vec<String>) -> String {
    attributes.sort_unstable();
    attributes.join("+")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let short = TYPES.iter().find(|(_, known)| *known == oid).map_or(oid.as_str(), |(short, _)| *short);
    match attribute.as_str() {
        Ok(text) => format!("{short}={}", escape(text)),
        // What has no text we can read stands as its encoding (section 2.4).
        Err(_) => {
            format!("{short}=#{}", super::hex(&attribute.attr_value().to_der_vec().unwrap_or_default()))
        }
    }
}

/// A value with what could be taken for syntax escaped (section 2.4), and control characters as well.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let at_an_end = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing into a string cannot fail.
                let _ = write!(out, "\\{byte:02x}");
            }
            continue;
        }
        if at_an_end || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

impl FromStr for DistinguishedName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |what: String| {
            Problem::new(what).remedy(
                "write it as `openssl x509 -noout -subject -nameopt RFC2253` prints it, such as `CN=billing,O=Example`",
            )
        };
        let parts = split(text, ',').into_iter().map(|part| {
            let attributes = split(part, '+').into_iter().map(|one| parse(one).map_err(wrong));
            Ok(join(attributes.collect::<Result<_, Problem>>()?))
        });
        Ok(Self(parts.collect::<Result<Vec<_>, Problem>>()?.join(",").into()))
    }
}

/// Splits at a sign that is not escaped.
fn split(text: &str, sign: char) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c: char| {
        let is_sign = c == sign && !escaped;
        escaped = c == '\\' && !escaped;
        is_sign
    })
    .collect()
}

/// One attribute, in the one form.
fn parse(text: &str) -> Result<String, String> {
    let (kind, value) = text.split_once('=').ok_or_else(|| format!("`{}` has no `=`", text.trim()))?;
    let (kind, value) = (kind.trim(), value.trim_start_matches(' '));
    let is_oid = kind.contains('.') && kind.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let known = TYPES
        .iter()
        .find(|(short, oid)| short.eq_ignore_ascii_case(kind) || *oid == kind)
        .map(|(short, _)| *short)
        .or_else(|| is_oid.then_some(kind))
        .ok_or_else(|| format!("unknown attribute `{kind}` of a distinguished name"))?;
    if let Some(digits) = value.strip_prefix('#') {
        let digits = digits.trim_end();
        let is_hex = !digits.is_empty() && digits.len().is_multiple_of(2);
        if !is_hex || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!("`#` in `{kind}` is not followed by pairs of hexadecimal digits"));
        }
        return Ok(format!("{known}=#{}", digits.to_ascii_lowercase()));
    }
    Ok(format!(
        "{known}={}",
        escape(&unescape(value).ok_or_else(|| {
            format!("the value of `{kind}` has a sign that must be escaped with `\\`, or is empty")
        })?)
    ))
}

/// A value without its escapes and the spaces around it; `None` if it is none.
fn unescape(value: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    // Up to here no space is taken away from the end.
    let mut kept = 0;
    let mut rest = value.bytes().peekable();
    while let Some(c) = rest.next() {
        match c {
            b'"' | b';' | b'<' | b'>' => return None,
            b'\\' => {
                let first = rest.next()?;
                let high = char::from(first).to_digit(16);
                let low = rest.peek().and_then(|c| char::from(*c).to_digit(16));
                if let Some((high, low)) = high.zip(low) {
                    rest.next();
                    out.push((high << 4 | low) as u8);
                } else if matches!(
                    first,
                    b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\'
                ) {
                    out.push(first);
                } else {
                    return None;
                }
                kept = out.len();
            }
            other => {
                out.push(other);
                if other != b' ' {
                    kept = out.len();
                }
            }
        }
    }
    out.truncate(kept);
    String::from_utf8(out).ok().filter(|text| !text.is_empty())
}
