//! Starts the server.

use larder::cli::{self, Invocation};
use larder::config::Parameters;
use larder::config::load::Sources;
use larder::node::Node;
use larder::observability::logging;
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::read(std::env::args_os().skip(1), std::env::vars_os()) {
        Invocation::Serve(sources) => serve(&sources),
        Invocation::Print(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Invocation::Refuse(text, code) => {
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(code)
        }
    }
}

fn serve(sources: &Sources) -> ExitCode {
    match start(sources) {
        Ok(node) => {
            node.join();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "larder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(sources: &Sources) -> Result<Node, Box<dyn std::error::Error>> {
    let loaded = Parameters::load(sources)?;
    let settings = loaded.parameters.snapshot();
    logging::start("notice", &settings.logfile, logging::Format::Text)?;
    Ok(Node::start(loaded.parameters)?)
}
