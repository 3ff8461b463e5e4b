//! Arguments and exit code, and the allocator: nothing else.

use std::process::ExitCode;

/// A call makes some hundred small allocations, many of them freed on the thread that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gateway::command::main()
}
