//! Hashes of passwords: argon2 as PHC strings, bcrypt as `htpasswd -B` writes it.

use crate::values::Problem;
use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand;

/// The dearest argon2 that is accepted: whoever presents a password makes us pay it.
const MOST_MEMORY_KIB: u32 = 256 << 10;
const MOST_PASSES: u32 = 32;
const MOST_LANES: u32 = 16;
/// The dearest bcrypt: each step doubles the time, and 16 takes some seconds.
const MOST_COST: u32 = 16;
/// bcrypt looks at no more bytes than this; the one that ends the password is the 72nd.
pub const BCRYPT_LONGEST: usize = 71;
/// What `tollgate hash` takes for bcrypt: about a quarter of a second.
const BCRYPT_COST: u32 = 12;

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// argon2id with 19 MiB, two passes and one lane, as OWASP's cheat sheet on password storage has it.
    Argon2id,
    /// bcrypt of cost 12.
    Bcrypt,
}

/// Hashes a password with a salt of its own.
///
/// # Errors
/// The password is too long for bcrypt, or the system has no randomness.
pub fn hash(password: &[u8], scheme: Scheme) -> Result<String, Problem> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| Problem::new("the system gives no random numbers"))?;
    let failed = |error: String| Problem::new(format!("the password cannot be hashed: {error}"));
    match scheme {
        Scheme::Argon2id => Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
            .hash_password_with_salt(password, &salt)
            .map(|hash| hash.to_string())
            .map_err(|error| failed(error.to_string())),
        Scheme::Bcrypt if password.len() > BCRYPT_LONGEST => {
            Err(Problem::new(format!("bcrypt looks at {BCRYPT_LONGEST} bytes of a password at most"))
                .remedy("use argon2id, or a shorter password"))
        }
        Scheme::Bcrypt => bcrypt::non_truncating_hash_with_salt(password, BCRYPT_COST, salt)
            .map(|parts| parts.format_for_version(bcrypt::Version::TwoB))
            .map_err(|error| failed(error.to_string())),
    }
}

/// Checks that a text is a hash which passwords can be compared with, at a price that can be paid.
///
/// # Errors
/// It is none, or is too dear.
pub fn check(text: &str) -> Result<(), Problem> {
    let wrong = |what: &str| {
        Problem::new(format!("this is not the hash of a password: {what}"))
            .remedy("`tollgate hash` reads a password and prints one")
    };
    let dear = |what: String| {
        Problem::new(format!("checking this hash is too dear: {what}"))
            .remedy("`tollgate hash` makes one that takes some dozen milliseconds")
    };
    if is_bcrypt(text) {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| wrong("malformed bcrypt"))?;
        let cost = parts.get_cost();
        return if cost > MOST_COST {
            Err(dear(format!("cost {cost}, {MOST_COST} at most")))
        } else {
            Ok(())
        };
    }
    let hash = phc::PasswordHash::new(text).map_err(|_| wrong("neither argon2's PHC string nor bcrypt"))?;
    if !hash.algorithm.as_str().starts_with("argon2") || hash.hash.is_none() || hash.salt.is_none() {
        return Err(wrong("only argon2 and bcrypt are known"));
    }
    Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| wrong("an unknown kind of argon2"))?;
    let params = Params::try_from(&hash).map_err(|error| wrong(&error.to_string()))?;
    if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
        return Err(dear(format!(
            "m={},t={},p={}; m={MOST_MEMORY_KIB},t={MOST_PASSES},p={MOST_LANES} at most",
            params.m_cost(),
            params.t_cost(),
            params.p_cost()
        )));
    }
    Ok(())
}

/// Whether this is the password. Some dozen milliseconds of a processor, and up to 256 MiB.
pub(super) fn verify(hash: &str, password: &[u8]) -> bool {
    if is_bcrypt(hash) {
        // What bcrypt would cut off could be anything.
        return bcrypt::non_truncating_verify(password, hash).unwrap_or(false);
    }
    phc::PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

fn is_bcrypt(text: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hashed_is_found_again() {
        for scheme in [Scheme::Argon2id, Scheme::Bcrypt] {
            let (one, other) =
                (hash(b"correct horse", scheme).unwrap(), hash(b"correct horse", scheme).unwrap());
            assert_ne!(one, other, "each has a salt of its own");
            check(&one).unwrap();
            assert!(verify(&one, b"correct horse") && verify(&other, b"correct horse"));
            for wrong in [&b"correct hors"[..], b"correct horse ", b"", b"Correct horse"] {
                assert!(!verify(&one, wrong), "{scheme:?}");
            }
        }
    }

    #[test]
    fn hashes_of_others_are_understood() {
        // Of the tests of crypt_blowfish, and of those of argon2's reference implementation.
        for (text, password) in [
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            ("$2y$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"),
            (
                "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
                "password",
            ),
        ] {
            check(text).unwrap();
            assert!(verify(text, password.as_bytes()), "{text}");
            assert!(!verify(text, b"another"), "{text}");
        }
    }

    #[test]
    fn what_is_no_hash_or_too_dear_is_a_mistake() {
        for text in [
            "",
            "hunter2",
            "$2b$12$short",
            "$2b$99$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            "$2b$17$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            "$apr1$salt$hash",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzYWx0",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzYWx0$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
            "$argon2id$v=19$m=64,t=1000,p=1$c29tZXNhbHRzYWx0$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
            "$argon2xx$v=19$m=64,t=1,p=1$c29tZXNhbHRzYWx0$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ] {
            let problem = check(text).unwrap_err();
            assert!(problem.remedy.unwrap().contains("tollgate hash"), "{text}");
            assert!(
                text.is_empty() || !problem.what.contains(text),
                "a secret in the wrong place is not shown"
            );
        }
    }

    #[test]
    fn bcrypt_cuts_no_password_off() {
        let long = [b'a'; 72];
        assert!(hash(&long, Scheme::Bcrypt).unwrap_err().what.contains("71 bytes"));
        let whole = hash(&long[..71], Scheme::Bcrypt).unwrap();
        assert!(verify(&whole, &long[..71]) && !verify(&whole, &long));
    }
}
