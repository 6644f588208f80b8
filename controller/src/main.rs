//! The binary `mynah`: reads the environment and hands over to the library.

use std::process::ExitCode;

use mynah_controller::allocator::Allocator;
use mynah_controller::environment::Environment;

#[global_allocator]
static ALLOCATOR: Allocator = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(mynah_controller::run(std::env::args_os(), &Environment::from_process()))
}
