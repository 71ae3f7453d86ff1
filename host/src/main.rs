//! `tollgate-host`: runs the Tollgate component on a machine without Spin, behaving as `spin up` does.
//!
//! It offers what the component imports and nothing else: WASI, outbound HTTP to allowed hosts, Spin's
//! variables and Spin's SQLite. It logs one line per problem to standard error and nothing per call.

mod allowed_hosts;
mod args;
mod bindings;
mod dispatch;
mod framing;
mod guest;
mod hop_by_hop;
mod instances;
mod manifest;
mod outbound;
mod reply;
mod server;
mod sqlite;
mod startup;
mod variables;
mod worker;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use args::{Args, ArgsError};
use dispatch::Dispatcher;
use instances::Instances;
use outbound::Exchanges;
use server::Server;
use startup::StartError;

/// How long live calls may go on after a signal to stop, those included whose callers have left and whose replies are still read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long instances may go on with what nobody waits for, after the last call has ended: enough to write what they know.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(3);

/// Threads beyond one a core: a guest's synchronous statement blocks its thread while it reads or syncs. More would only wake each other; a long
/// wait for another connection's lock hands the thread's tasks over by itself.
const THREADS_SPARE: usize = 1;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(ArgsError::Help) => {
            // Nobody is left to tell where standard output is closed.
            _ = writeln!(std::io::stdout(), "{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            log(&error);
            _ = writeln!(std::io::stderr(), "{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cores.saturating_add(THREADS_SPARE)).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(up(args));
            // What is left now has had its time.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(StartError::Runtime(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error);
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal to stop, then until what is live has ended.
async fn up(args: Args) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    let shutdown = CancellationToken::new();
    let (connection_alive, mut connections_ended) = mpsc::channel(1);
    let (exchange_alive, mut exchanges_ended) = mpsc::channel(1);
    let (instance_alive, mut instances_ended) = mpsc::channel(1);
    let (listen, reuse) = (args.listen, args.reuse);
    let exchanges = Exchanges::new(exchange_alive);
    let (source, grants) = startup::prepare(args, exchanges.clone())?;
    let instances = Instances::new(&source, grants, reuse, shutdown.clone(), instance_alive)
        .map_err(|error| StartError::Component { path: source, error })?;
    let listener = TcpListener::bind(listen).await.map_err(|error| StartError::Listen { listen, error })?;
    let address = listener.local_addr().map_err(|error| StartError::Listen { listen, error })?;
    announce(address).map_err(StartError::Runtime)?;

    let server = Server { dispatcher: Dispatcher::new(instances), shutdown: shutdown.clone(), alive: connection_alive };
    let accepting = tokio::spawn(server.accept(listener));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    // The task only returns, and drops its share of what is alive.
    _ = accepting.await;
    let calls_ended = async {
        connections_ended.recv().await;
        exchanges.close();
        exchanges_ended.recv().await;
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, calls_ended).await.is_err() {
        log(&format_args!("calls still live after {} s were cut", DRAIN_TIMEOUT.as_secs()));
        return Ok(());
    }
    // What an instance does by itself may go on for ever. It is cut as by a crash, which every guest must bear.
    _ = tokio::time::timeout(BACKGROUND_TIMEOUT, instances_ended.recv()).await;
    Ok(())
}

fn announce(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "Serving http://{address}")?;
    stdout.flush()
}

/// Writes one problem as one line to standard error. Where that is closed there is nobody to tell.
fn log(problem: &dyn fmt::Display) {
    let problem = problem.to_string();
    let lines: Vec<&str> = problem.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    _ = writeln!(std::io::stderr(), "tollgate-host: {}", lines.join("; "));
}
