//! `gradus-worker`: carries out stages for the engine, which speaks frames on stdin and stdout.
//!
//! Descriptor 1 is taken for frames before anything else runs, so that what native code prints goes to
//! the log. CUDA is opened before any other call into libtorch; see `device.rs` for why.

mod artifact;
mod catalog;
mod context;
mod data;
mod device;
#[cfg(test)]
mod end_to_end;
mod environment;
mod error;
mod evaluate;
mod families;
mod feedback;
mod look;
mod memory;
mod model;
mod nn;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod oracles;
mod policy;
mod port;
mod prepare;
mod program;
mod reward;
mod rollout;
mod rules;
mod schema;
mod serve;
mod stage;
mod tabular;
mod take;
mod train;
mod verifier;

use std::process::ExitCode;

fn main() -> ExitCode {
    memory::keep();
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("catalog"), None) => serve::print_catalog(),
        (Some("serve"), Some(device)) => serve::serve(&device),
        _ => serve::usage(),
    }
}
