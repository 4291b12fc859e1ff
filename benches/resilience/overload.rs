//! The simulation that the tests of `limits` assert on.

use tollgate::upstream::shed::{WINDOW, limit, queue};
use tollgate::values::Importance;

#[path = "../../src/upstream/shed/simulation.rs"]
pub mod simulation;
