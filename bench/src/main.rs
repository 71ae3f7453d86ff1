//! Measures the metered paths beside a component that only forwards, on the same runner, in turn in one run.
//!
//! Everything shares one machine: backend, servers and callers. So only shares are comparable between machines.

mod args;
mod backend;
mod bodies;
mod calls;
mod compare;
mod error;
mod gateway;
mod hooks;
mod http;
mod load;
mod peers;
mod process;
mod replies;
mod report;
mod scan;
mod streams;
mod workerd;

use args::{Args, Part};
use error::BenchError;
use std::path::Path;
use std::process::ExitCode;

/// Measures part after part; returns the bounds that were missed.
async fn measure(args: &Args, work: &Path) -> Result<Vec<String>, BenchError> {
    let backend = backend::start()?;
    let mut missed = Vec::new();
    for part in &args.parts {
        missed.append(&mut match part {
            Part::Scan => scan::run(args, backend, work).await.map(|()| Vec::new())?,
            Part::Replies => replies::run(args, backend, work).await?,
            Part::Streams => streams::run(args, backend, work).await?,
            Part::Hooks => hooks::run(args, backend, work).await?,
            Part::Calls => calls::run(args, backend, work).await?,
            Part::Workerd => workerd::run(args, backend, work).await.map(|()| Vec::new())?,
        });
    }
    Ok(missed)
}

async fn run() -> Result<(), BenchError> {
    let args = Args::parse(std::env::args().skip(1))?;
    // On the disk that the build is on: a temporary file system in memory would make durability free.
    let work =
        tempfile::Builder::new().prefix("bench-").tempdir_in("target").map_err(|error| BenchError::Io("target/", error))?;
    let path = work.path().canonicalize().map_err(|error| BenchError::Io("target/", error))?;
    // Leaving ends every server that was started; they would not hear of Ctrl-C themselves.
    let missed = tokio::select! {
        missed = measure(&args, &path) => missed?,
        _ = tokio::signal::ctrl_c() => return Err(BenchError::Interrupted),
    };
    if missed.is_empty() { Ok(()) } else { Err(BenchError::BoundMissed(missed)) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
