//! A server under test as a child process, stopped with all its own children when dropped.

use crate::error::BenchError;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Compiling a component on a busy machine is slow.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// A running server.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a server that prints `Serving http://ADDRESS` once it listens.
    pub(crate) fn serving(name: &str, mut command: Command, work: &Path) -> Result<(Self, SocketAddr), BenchError> {
        command.stdout(Stdio::piped());
        let mut process = Self::spawn(name, command, work)?;
        let (sender, addresses) = mpsc::channel();
        if let Some(stdout) = process.child.stdout.take() {
            // Reads on to the end, so that the server never blocks on a full pipe.
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let served = line.split("Serving http://").nth(1).map(|rest| rest.trim().trim_end_matches('/').parse());
                    if let Some(Ok(address)) = served {
                        let _ = sender.send(address);
                    }
                }
            });
        }
        match addresses.recv_timeout(START_LIMIT) {
            Ok(address) => Ok((process, address)),
            Err(_) => Err(not_started(name, work)),
        }
    }

    /// Starts a server that listens on a given address.
    pub(crate) fn listening(name: &str, mut command: Command, address: SocketAddr, work: &Path) -> Result<Self, BenchError> {
        command.stdout(Stdio::null());
        let mut process = Self::spawn(name, command, work)?;
        let begin = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            let has_ended = !matches!(process.child.try_wait(), Ok(None));
            if has_ended || begin.elapsed() > START_LIMIT {
                return Err(not_started(name, work));
            }
            std::thread::sleep(POLL);
        }
        Ok(process)
    }

    fn spawn(name: &str, mut command: Command, work: &Path) -> Result<Self, BenchError> {
        let log = File::create(work.join(format!("{name}.log"))).map_err(|error| BenchError::Io("a log file", error))?;
        command.stdin(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn().map_err(|error| BenchError::Io("starting a server", error))?;
        Ok(Self { child })
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("-TERM");
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > STOP_LIMIT {
                self.signal("-KILL");
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn not_started(name: &str, work: &Path) -> BenchError {
    BenchError::NotStarted { name: name.to_owned(), log: work.join(format!("{name}.log")) }
}

/// A port that is free now; another process may take it before it is used.
pub(crate) fn free_address() -> Result<SocketAddr, BenchError> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_err(|error| BenchError::Io("a free port", error))
}
