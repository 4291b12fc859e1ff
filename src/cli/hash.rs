//! `tollgate hash`: the hash of a password, for the configuration. The password comes by standard input:
//! a command line stands in histories, and every user of the machine can read it.

use super::{complain, print};
use crate::identity::passwords::hash::{self, Scheme};
use crate::values::Problem;
use clap::ValueEnum;
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io::{self, BufRead as _, Read as _, Stdin};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The longest password, in bytes; what requests carry is bounded as well.
const LONGEST: u64 = 1024;

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Algorithm {
    Argon2id,
    Bcrypt,
}

pub(super) fn main(algorithm: Algorithm) -> ExitCode {
    let scheme = match algorithm {
        Algorithm::Argon2id => Scheme::Argon2id,
        Algorithm::Bcrypt => Scheme::Bcrypt,
    };
    match password().and_then(|password| hash::hash(&password, scheme)) {
        Ok(hash) => {
            print(&format!("{hash}\n"));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            complain(&format!("tollgate: {problem}\n"));
            ExitCode::FAILURE
        }
    }
}

/// What comes by standard input, less one line break at its end.
fn password() -> Result<Zeroizing<Vec<u8>>, Problem> {
    let stdin = io::stdin();
    let mut password = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 2));
    let read = if isatty(&stdin) {
        complain("Password: ");
        let silence = Silence::begin(&stdin);
        let read = stdin.lock().take(LONGEST + 2).read_until(b'\n', &mut password);
        drop(silence);
        complain("\n");
        read
    } else {
        stdin.lock().take(LONGEST + 2).read_to_end(&mut password)
    };
    read.map_err(|error| Problem::new(format!("the password cannot be read: {error}")))?;
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    let wrong = |what: &str| {
        Problem::new(what).remedy("write it to standard input: `printf %s PASSWORD | tollgate hash`")
    };
    if password.is_empty() {
        return Err(wrong("there is no password"));
    }
    if password.len() as u64 > LONGEST {
        return Err(Problem::new(format!("the password is longer than {LONGEST} bytes")));
    }
    if password.iter().any(u8::is_ascii_control) {
        return Err(wrong("the password has a control character, which no client can send"));
    }
    Ok(password)
}

/// A terminal that does not show what is typed, until it is dropped.
struct Silence<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Silence<'a> {
    /// None if the terminal cannot do it.
    fn begin(stdin: &'a Stdin) -> Option<Self> {
        let before = tcgetattr(stdin).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Flush, &silent).ok()?;
        Some(Self { stdin, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.stdin, OptionalActions::Flush, &self.before);
    }
}
