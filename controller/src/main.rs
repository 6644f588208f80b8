//! The binary `mynah`: reads the environment and hands over to the library.

use std::process::ExitCode;

use mynah_controller::environment::Environment;

/// Training and serving allocate and free large buffers in turns; mimalloc keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(mynah_controller::run(std::env::args_os(), &Environment::from_process()))
}
