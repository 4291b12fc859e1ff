use crate::values::Problem;
use rustls::pki_types::pem::{self, PemObject};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Certificates, keys and authorities are a few KiB each; revocation lists may be large.
const LARGEST: u64 = 64 << 20;

/// Reads a file that the user named.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
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
pub(super) fn pem_items<T: PemObject>(path: &Path, kind: &str) -> Result<Vec<T>, Problem> {
    let bytes = read(path)?;
    let items: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
    let items = items.map_err(|_| not_pem(path))?;
    if items.is_empty() {
        return Err(none_inside(path, &bytes, kind));
    }
    Ok(items)
}

pub(super) fn not_pem(path: &Path) -> Problem {
    Problem::new(format!("file `{}` is not PEM", path.display()))
        .remedy("a PEM file has blocks between `-----BEGIN …-----` and `-----END …-----`")
}

pub(super) fn none_inside(path: &Path, bytes: &[u8], kind: &str) -> Problem {
    if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return Problem::new(format!("file `{}` has no {kind} in it", path.display()))
            .remedy("another file was meant, perhaps");
    }
    not_pem(path)
}
