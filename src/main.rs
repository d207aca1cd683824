//! Starts the server.

use larder::cli::{self, Inspection, Invocation};
use larder::config::Parameters;
use larder::config::load::Sources;
use larder::node;
use larder::store::repair;
use larder::tools::{Folder, export, import};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    larder::base::crash_point::arm();
    let sources = match cli::read(std::env::args_os(), std::env::vars_os()) {
        Invocation::Serve(sources) => sources,
        Invocation::Print(text) => {
            // Whoever closed our output does not want to read it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Invocation::Refuse(text, code) => return refuse(&text, code),
        Invocation::Lost(request) => {
            return match request.run(&mut std::io::stdout().lock()) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => refuse(&format!("larder lost: {error}"), 1),
            };
        }
        Invocation::Import(request, sources) => {
            return on_folder(&sources, |folder, now| {
                let report = import::import(&request, folder, now)?;
                let _ =
                    report.warnings.iter().try_for_each(|line| writeln!(std::io::stderr(), "larder: {line}"));
                Ok(report.text)
            });
        }
        Invocation::Export(request, sources) => {
            return on_folder(&sources, |folder, now| export::export(&request, folder, now));
        }
        Invocation::Inspect(folder, inspection) => return inspect(&folder, inspection),
    };
    let loaded = match Parameters::load(&sources) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error.to_string(), 1),
    };
    match node::run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string(), 1),
    }
}

/// Does work on the data folder that the sources name, and tells what it says.
fn on_folder(sources: &Sources, work: impl FnOnce(&Folder, i64) -> Result<String, String>) -> ExitCode {
    let folder = match Parameters::load(sources) {
        Ok(loaded) => Folder::of(&loaded.parameters),
        Err(error) => return refuse(&error.to_string(), 1),
    };
    match work(&folder, larder::base::clock::unix_ms()) {
        Ok(text) => {
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(reason) => refuse(&format!("larder: {reason}"), 1),
    }
}

fn inspect(folder: &Path, inspection: Inspection) -> ExitCode {
    let mut report = |line: &str| drop(writeln!(std::io::stdout(), "{line}"));
    let done = match inspection {
        Inspection::Check => repair::check(folder, &mut report),
        Inspection::Repair => repair::repair(folder, &mut report),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string(), 1),
    }
}

fn refuse(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
