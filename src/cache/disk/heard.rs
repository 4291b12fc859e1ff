//! Up to where it is known what other gateways have purged, so that a process that comes after this one goes
//! on from there: what is on disk is older than it.

use super::Disk;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};

/// The longest that is read, in bytes.
const LONGEST: u64 = 64;

impl Disk {
    /// What was written last; nothing if nothing ever was, and an empty text if it cannot be read.
    pub fn heard(&self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let read = File::open(self.folder.root().join("heard"))
            .and_then(|file| file.take(LONGEST).read_to_end(&mut text));
        match read {
            Ok(_) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(_) => Some(Vec::new()),
        }
    }

    /// Writes it, once all that was heard up to there is on the disk itself. Blocks.
    ///
    /// # Errors
    /// The disk's; then it is as it was.
    pub fn set_heard(&self, text: &str) -> io::Result<()> {
        {
            let mut journal = self.journal.lock();
            if journal.lacks() {
                return Err(io::Error::other("the journal lacks a purge"));
            }
            journal.sync()?;
        }
        let mut file = self.folder.temporary()?;
        file.write(text.as_bytes())?;
        file.sync()?;
        file.keep(&self.folder.root().join("heard"))
    }
}
