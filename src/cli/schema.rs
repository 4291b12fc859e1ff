//! `tollgate schema`: the JSON Schema of the configuration.

use std::process::ExitCode;

pub(super) fn main() -> ExitCode {
    super::print(&crate::config::schema_text());
    ExitCode::SUCCESS
}
