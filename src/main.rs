//! `gradus`: parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gradus::main()
}
