//! Starts the runner on a component of its own and speaks HTTP/1.1 to it and for it, byte by byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; nothing waits this long where the runner is right.
const PATIENCE: Duration = Duration::from_secs(30);

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Builds a component the way its manifest says.
fn build(component: &str, built: &Once) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    built.call_once(|| {
        let _turn = ONE_AT_A_TIME.lock().unwrap();
        let script = workspace().join("scripts/build-component");
        let output = Command::new(script).arg(component).env_remove("RUSTFLAGS").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

/// A running runner; killed when dropped.
pub(crate) struct Runner {
    child: Child,
    pub(crate) address: SocketAddr,
    state: tempfile::TempDir,
}

impl Runner {
    /// Runs the component that does on request what a runner must cope with.
    pub(crate) fn probe(options: &[&str]) -> Self {
        static BUILT: Once = Once::new();
        build("probe", &BUILT);
        Self::start(&workspace().join("host/probe"), options)
    }

    /// Runs the component that forwards everything to `backend`.
    pub(crate) fn forward(backend: SocketAddr) -> Self {
        static BUILT: Once = Once::new();
        build("forward", &BUILT);
        Self::start(&workspace().join("bench/forward"), &["--variable", &format!("backend=http://{backend}")])
    }

    fn start(from: &Path, options: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut child = command(from, state.path()).args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Serving http://").unwrap_or_else(|| panic!("printed {line:?}"));
        Self { address: address.parse().unwrap(), child, state }
    }

    /// What the component's database holds.
    pub(crate) fn count(&self, query: &str) -> i64 {
        let path = self.state.path().join("sqlite_db.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.query_row(query, [], |row| row.get(0)).unwrap_or(0)
    }

    pub(crate) fn wait_for_count(&self, query: &str, expected: i64) {
        wait_until(&format!("{query} to be {expected}"), || self.count(query) == expected);
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub(crate) fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the runner to leave", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str, headers: &str) -> Reply {
        let mut wire = self.connect();
        wire.send(&format!("GET {path} HTTP/1.1\r\nhost: runner\r\n{headers}connection: close\r\n\r\n"));
        wire.reply()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The runner's command line; every test has its own port and state.
pub(crate) fn command(from: &Path, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-host"));
    command.arg("up").arg("--from").arg(from).arg("--state-dir").arg(state).args(["--listen", "127.0.0.1:0"]);
    command
}

pub(crate) fn manifest(component: &str) -> PathBuf {
    workspace().join(component)
}

pub(crate) fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let started = Instant::now();
    while !met() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A reply, and whether its end was a clean one.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) complete: bool,
}

/// One side of a connection.
pub(crate) struct Wire(BufReader<TcpStream>);

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// The next message's head; empty where the other side has closed instead.
    pub(crate) fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.0.read_line(&mut head) {
                Ok(0) | Err(_) => return String::new(),
                Ok(_) => {}
            }
        }
        head.to_ascii_lowercase()
    }

    /// Exactly `length` bytes, or fewer where the other side ends first.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.by_ref().take(length as u64).read_to_end(&mut bytes).ok();
        bytes
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let head = self.head();
        let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        let (body, complete) = match header(&head, "content-length") {
            Some(length) => {
                let length = length.parse().unwrap();
                let body = self.bytes(length);
                let complete = body.len() == length;
                (body, complete)
            }
            None => self.chunks(),
        };
        Reply { status, head, body: String::from_utf8_lossy(&body).into_owned(), complete }
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let mut size = String::new();
            self.0.read_line(&mut size).ok();
            let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
                return (body, false);
            };
            let chunk = self.bytes(size + 2);
            if chunk.len() < size + 2 {
                return (body, false);
            }
            body.extend(&chunk[..size]);
            if size == 0 {
                return (body, true);
            }
        }
    }

    /// Whether the other side has closed and sent nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.bytes(1).is_empty()
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name).map(|(_, value)| value))
}

/// A backend whose every connection is served by `serve`, which is told how many came before.
pub(crate) fn backend(serve: impl Fn(usize, Wire) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let serve = std::sync::Arc::clone(&serve);
            std::thread::spawn(move || serve(count, Wire::new(stream.unwrap())));
        }
    });
    address
}
