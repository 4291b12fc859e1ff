//! The binary: arguments in, exit code out.

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: tollgate::allocator::Allocator = tollgate::allocator::Allocator;

fn main() -> ExitCode {
    tollgate::cli::main(std::env::args_os())
}
