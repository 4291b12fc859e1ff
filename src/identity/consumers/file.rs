//! A file of consumers: one JSON object a line.

use super::table::{Builder, Table, Twice};
use crate::identity::config::{ConsumerConfig, ConsumerName, CredentialConfig};
use crate::retained::{Retained, StableId};
use crate::values::{Name, Problem, Secret};
use parking_lot::Mutex;
use serde::Deserialize;
use std::fs::{File, Metadata};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest line.
const LONGEST_LINE: u64 = 64 << 10;
/// After so many mistakes the rest of the file is not worth reading.
const ENOUGH: usize = 20;
/// A file that was changed a moment before it was read may change again without looking different.
const SETTLED: Duration = Duration::from_secs(2);

/// What was read last, kept from one configuration to the next.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Stamp, Arc<Table>)>>);

/// What tells a file from another state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: SystemTime,
    inode: u64,
}

impl Stamp {
    /// None if a later state may look the same.
    fn of(metadata: &Metadata, now: SystemTime) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let modified = metadata.modified().ok()?;
        let is_settled = now.duration_since(modified).is_ok_and(|age| age >= SETTLED);
        is_settled.then(|| Self { length: metadata.len(), modified, inode: metadata.ino() })
    }
}

/// A line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: ConsumerName,
    plan: Option<Name>,
    tenant: Option<ConsumerName>,
    #[serde(default)]
    groups: Vec<Name>,
    #[serde(default)]
    credentials: Vec<CredentialConfig>,
}

/// Reads a file, or takes what was read of it before, if it has not changed.
pub(super) fn read(path: &Path, retained: &Retained) -> Result<(Arc<Kept>, Arc<Table>), Vec<Problem>> {
    let kept = retained.get_or(StableId::new("consumers", path.display()), Kept::default);
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| vec![unreadable(path, &error)])?;
    let stamp = Stamp::of(&metadata, SystemTime::now());
    let before =
        kept.0.lock().as_ref().filter(|(old, _)| Some(old) == stamp.as_ref()).map(|(_, table)| table.clone());
    if let Some(table) = before {
        return Ok((kept, table));
    }
    let table = Arc::new(parse(path, BufReader::with_capacity(1 << 20, file))?);
    log::info!("consumers read file={:?} consumers={} bytes={}", path, table.len(), table.bytes());
    *kept.0.lock() = stamp.map(|stamp| (stamp, Arc::clone(&table)));
    Ok((kept, table))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(format!("`{}` cannot be read: {error}", path.display()))
        .remedy("a relative path counts from the folder of the configuration file")
}

fn parse(path: &Path, mut reader: BufReader<File>) -> Result<Table, Vec<Problem>> {
    let mut builder = Builder::default();
    let mut problems = Vec::new();
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let mut limited = reader.by_ref().take(LONGEST_LINE + 1);
        match limited.read_until(b'\n', &mut text) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                problems.push(unreadable(path, &error));
                break;
            }
        }
        if text.len() as u64 > LONGEST_LINE {
            problems.push(at(path, number, Problem::new("the line is longer than 64KiB")));
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let wrong = line(&text, number, &mut builder);
        problems.extend(wrong.into_iter().map(|problem| at(path, number, problem)));
        if problems.len() >= ENOUGH {
            problems.truncate(ENOUGH);
            problems.push(
                Problem::new(format!("`{}` is not read beyond line {number}", path.display()))
                    .remedy("mend the lines before"),
            );
            break;
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (table, twice) = builder.build();
    if twice.is_empty() {
        return Ok(table);
    }
    let told = |twice: &Twice| {
        let problem = super::told(twice);
        Problem { what: format!("`{}`: {}", path.display(), problem.what), remedy: problem.remedy }
    };
    Err(twice.iter().take(ENOUGH).map(told).collect())
}

fn at(path: &Path, line: u64, problem: Problem) -> Problem {
    Problem { what: format!("`{}` line {line}: {}", path.display(), problem.what), remedy: problem.remedy }
}

fn line(text: &[u8], number: u64, builder: &mut Builder) -> Vec<Problem> {
    let Line { name, plan, tenant, groups, credentials } = match serde_json::from_slice(text) {
        Ok(line) => line,
        Err(error) => return vec![misfit(&error)],
    };
    let in_file = |credential: &CredentialConfig| matches!(credential.secret(), Some(Secret::File(_)));
    if let Some(place) = credentials.iter().position(in_file) {
        let problem = Problem::new(format!("credential {} is in a file of its own", place + 1));
        return vec![problem.remedy(
            "put it into the line itself; of an API key its digest: `{\"api_key\":{\"sha256\":\"…\"}}`",
        )];
    }
    let consumer = ConsumerConfig { plan, tenant, groups, credentials };
    let wrong = builder.add(name.as_str(), &consumer, number);
    wrong
        .into_iter()
        .map(|(place, problem)| Problem {
            what: format!("credential {}: {}", place + 1, problem.what),
            remedy: problem.remedy,
        })
        .collect()
}

/// What serde says, without values: one in the wrong place may be a secret.
fn misfit(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let shows_a_value = text.starts_with("invalid ") || text.starts_with("unknown variant");
    let what = match text.split_once(", expected ") {
        Some((_, expected)) if shows_a_value => format!("expected {expected}"),
        _ => text.to_owned(),
    };
    Problem::new(format!("{what} (column {})", error.column())).remedy(
        "a line is `{\"name\": …, \"plan\": …, \"tenant\": …, \"groups\": […], \"credentials\": […]}`",
    )
}
