//! The compact serialisation (RFC 7515, section 7.1): three parts of base64url, nothing else.

use crate::identity::cause::Cause;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A token taken apart. Nothing in it is believed yet.
#[derive(Debug)]
pub(super) struct Compact<'t> {
    /// The header's JSON.
    pub header: Vec<u8>,
    /// The claims' JSON.
    pub payload: Vec<u8>,
    /// What was signed: the first two parts as they came.
    pub signed: &'t [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// Takes a token apart. One text has one reading: no padding, no line breaks, no bits that do not
/// count (RFC 7515 section 2, RFC 4648 section 3.5).
pub(super) fn split(token: &str) -> Result<Compact<'_>, Cause> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Cause::NotAToken);
    };
    if signature.is_empty() {
        return Err(Cause::Unsigned);
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Cause::BadEncoding);
    Ok(Compact {
        header: decode(header)?,
        payload: decode(payload)?,
        signed: &token.as_bytes()[..header.len() + 1 + payload.len()],
        signature: decode(signature)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_has_one_reading() {
        let token = split("e30.e30.AAAA").unwrap();
        assert_eq!(
            (&*token.header, &*token.payload, token.signed),
            (&b"{}"[..], &b"{}"[..], &b"e30.e30"[..])
        );
        for (text, cause) in [
            ("", Cause::NotAToken),
            ("e30", Cause::NotAToken),
            ("e30.e30", Cause::NotAToken),
            ("e30.e30.AAAA.", Cause::NotAToken),
            ("e30.e30.AAAA.AAAA.AAAA", Cause::NotAToken),
            ("{\"payload\":\"e30\"}", Cause::NotAToken),
            ("e30.e30.", Cause::Unsigned),
            ("e30=.e30.AAAA", Cause::BadEncoding),
            ("e30.e30.AAAA=", Cause::BadEncoding),
            ("e30.e30.AAA=", Cause::BadEncoding),
            ("e31.e30.AAAA", Cause::BadEncoding),
            ("e30.e30.AAAAA", Cause::BadEncoding),
            ("e30.e30.AA/A", Cause::BadEncoding),
            ("e30.e30.AA+A", Cause::BadEncoding),
            ("e30.e30.AAAA ", Cause::BadEncoding),
            (" e30.e30.AAAA", Cause::BadEncoding),
            ("e3\n0.e30.AAAA", Cause::BadEncoding),
            ("e30.e30.AAAA\n", Cause::BadEncoding),
            ("e30.e30.AAA\u{410}", Cause::BadEncoding),
        ] {
            assert_eq!(split(text).unwrap_err(), cause, "{text}");
        }
    }
}
