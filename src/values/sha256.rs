use super::{Problem, text_value};
use aws_lc_rs::digest::{SHA256, digest};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq as _;

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(out)
    }

    /// The digest of several texts in this order. Each counts with its length, so that no other
    /// texts have the same one.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// All of it, as [`PartialEq`] compares all of it.
impl std::hash::Hash for Sha256 {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// In constant time: what is compared may stand for a secret.
impl PartialEq for Sha256 {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Sha256 {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::new("this is not a SHA-256 digest")
                .remedy("write its 64 hexadecimal digits; `printf %s KEY | sha256sum` prints them")
        };
        let digit = |c: u8| char::from(c).to_digit(16);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(wrong());
        }
        let mut out = [0; 32];
        for (byte, [high, low]) in out.iter_mut().zip(pairs) {
            let (high, low) = digit(*high).zip(digit(*low)).ok_or_else(wrong)?;
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_value!(
    Sha256,
    "^[0-9a-fA-F]{64}$",
    "a SHA-256 digest of 64 hexadecimal digits",
    ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(empty.parse::<Sha256>().unwrap(), Sha256::of(b""));
        assert_eq!(empty.to_uppercase().parse::<Sha256>().unwrap().to_string(), empty);
        for wrong in ["", "e3", &empty[1..], &format!("{empty}0"), &empty.replace('e', "g"), "+1"] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        let of =
            |parts: &[&str]| Sha256::of_parts(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>());
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
        assert_ne!(of(&["ab"]), Sha256::of(b"ab"));
    }
}
