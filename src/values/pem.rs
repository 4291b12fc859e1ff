//! PEM files that a configuration names: read within bounds, with problems in the user's words.

use super::Problem;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Certificates, keys and authorities are a few KiB each; revocation lists may be large.
const LARGEST: u64 = 64 << 20;

/// 30 days, in seconds.
const SOON: i64 = 30 * 86_400;

/// Reads a file that the user named, at most 64 MiB.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        let problem = Problem::new(format!("file `{shown}` cannot be read: {error}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => problem.remedy("check the path"),
            std::io::ErrorKind::PermissionDenied => problem.remedy("give us leave to read it"),
            _ => problem,
        }
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Problem::new(format!("file `{shown}` is larger than 64 MiB")));
    }
    Ok(bytes)
}

/// All items of one kind in a PEM file; at least one. `kind` is the word for one of them.
///
/// # Errors
/// The file cannot be read, is not PEM, or has none of them.
pub fn pem_items<T: PemObject>(path: &Path, kind: &str) -> Result<Vec<T>, Problem> {
    let bytes = read(path)?;
    let items: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
    let items = items.map_err(|_| not_pem(path))?;
    if items.is_empty() {
        return Err(none_inside(path, &bytes, kind));
    }
    Ok(items)
}

fn not_pem(path: &Path) -> Problem {
    Problem::new(format!("file `{}` is not PEM", path.display()))
        .remedy("a PEM file has blocks between `-----BEGIN …-----` and `-----END …-----`")
}

fn none_inside(path: &Path, bytes: &[u8], kind: &str) -> Problem {
    if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return Problem::new(format!("file `{}` has no {kind} in it", path.display()))
            .remedy("another file was meant, perhaps");
    }
    not_pem(path)
}

/// The first private key in a PEM file.
///
/// # Errors
/// The file cannot be read, is not PEM, or has no key that is not encrypted.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        const ENCRYPTED: &[u8] = b"ENCRYPTED";
        if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            return Problem::new(format!("the private key in `{}` is encrypted", path.display()))
                .remedy("decrypt it: `openssl pkey -in key.pem -out plain.pem`");
        }
        match error {
            pem::Error::NoItemsFound => none_inside(path, &bytes, "private key"),
            _ => not_pem(path),
        }
    })
}

/// Why a key cannot be used with the certificate before it.
pub fn explain_key(path: &Path, error: &rustls::Error) -> Problem {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            Problem::new(format!("the key in `{}` does not belong to the certificate", path.display()))
                .remedy("the first certificate of the file must be the one that the key was made for")
        }
        _ => Problem::new(format!("the key in `{}` cannot be used: {error}", path.display()))
            .remedy("use a key for RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) or Ed25519"),
    }
}

/// What is odd about the time that a certificate is valid for, in seconds since 1970, at `now`. It
/// is used all the same: whoever looks away is better served than nobody.
pub fn check_validity(path: &Path, (not_before, not_after): (i64, i64), now: i64) -> Option<Problem> {
    let shown = path.display();
    let date =
        |seconds| jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string());
    if not_after < now {
        let problem = Problem::new(format!("the certificate in `{shown}` expired at {}", date(not_after)));
        return Some(problem.remedy("renew it: it is refused"));
    }
    if not_before > now {
        let problem =
            Problem::new(format!("the certificate in `{shown}` is valid from {} only", date(not_before)));
        return Some(problem.remedy("check this machine's clock, or wait: it is refused until then"));
    }
    if not_after - now < SOON {
        let until = date(not_after);
        let problem = Problem::new(format!("the certificate in `{shown}` expires soon, at {until}"));
        return Some(problem.remedy("renew it"));
    }
    None
}
