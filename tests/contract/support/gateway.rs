//! A gateway under test: one that is already running, or the bundled runner started here with a config of the suite's.

use super::backend::Backend;
use super::call::{Call, Reply};
use super::receiver::{NEXT_SECRET, Receiver, SECRET};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The suite's config; its comments say how to run it against a gateway that is already running.
pub(crate) const CONFIG: &str = include_str!("../tollgate.toml");
/// The suite's config with holds that are lost soon, and with `more` keys of `[gateway]`.
pub(crate) fn short_lease(more: &str) -> String {
    CONFIG.replacen("[gateway]", &format!("[gateway]\nhold_lease = \"1s\"\n{more}"), 1)
}

/// The backend's address in the suite's config, replaced by the real one.
const BACKEND_IN_CONFIG: &str = "127.0.0.1:9000";
/// The receiver's, likewise.
const RECEIVER_IN_CONFIG: &str = "127.0.0.1:9900";
/// Compiling the component on a busy machine is slow.
const START_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const ADMIN_TOKEN: &str = "contract-admin-token";
pub(crate) const READ_TOKEN: &str = "contract-read-token";
pub(crate) const AGENTS_SK: &str = "contract-agents-secret-key-0123456789";
pub(crate) const GATEWAY_SECRET: &str = "contract-gateway-secret";
pub(crate) const BACKEND_AUTH: &str = "Bearer contract-backend";

struct Process {
    child: Mutex<Child>,
    /// What the runner has said so far on stderr.
    log: Arc<Mutex<String>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// One gateway; clones are the same one.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    admin_token: String,
    process: Option<Arc<Process>>,
}

/// Where a runner keeps its state, and with which config it runs; outlives the runner.
pub(crate) struct Home {
    dir: TempDir,
    /// A Worker of its own kind.
    worker: Option<PathBuf>,
}

impl Home {
    pub(crate) fn new(config: &str, backend: &Backend, receiver: &Receiver) -> Self {
        let home = Self { dir: TempDir::new().unwrap(), worker: None };
        home.configure(config, backend, receiver);
        home
    }

    /// Another config for the next start.
    pub(crate) fn configure(&self, config: &str, backend: &Backend, receiver: &Receiver) {
        let config = config.replace(BACKEND_IN_CONFIG, &backend.address.to_string());
        let config = config.replace(RECEIVER_IN_CONFIG, &receiver.address.to_string());
        // Workers may have it in parts.
        let parted = config.rfind("[[product]]").filter(|_| is_workerd()).unwrap_or(config.len());
        let (config, rest) = config.split_at(parted);
        std::fs::write(self.dir.path().join("tollgate.toml"), config).unwrap();
        std::fs::write(self.dir.path().join("tollgate-2.toml"), rest).unwrap();
    }

    /// Puts another module before the built Worker, which that one finds as `./tollgate.js`.
    pub(crate) fn replace_worker(&mut self, module: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let worker = self.dir.path().join("worker");
        std::fs::create_dir_all(&worker).unwrap();
        let settings = std::fs::read_to_string(root.join("worker/wrangler.toml")).unwrap();
        std::fs::write(worker.join("wrangler.toml"), settings.replace("build/index.js", "index.js")).unwrap();
        for (from, to) in
            [(module, "index.js"), ("worker/build/index.js", "tollgate.js"), ("worker/build/index_bg.wasm", "index_bg.wasm")]
        {
            std::fs::copy(root.join(from), worker.join(to)).unwrap();
        }
        self.worker = Some(worker);
    }

    /// Where the runner's state is.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The databases that hold customers' ledgers: one for all, or on workerd one for each customer's object.
    pub(crate) fn ledgers(&self) -> Vec<PathBuf> {
        if !is_workerd() {
            return vec![self.state_path().join("sqlite_db.db")];
        }
        let objects = std::fs::read_dir(self.state_path().join("objects/tollgate-account")).unwrap();
        let paths = objects.map(|entry| entry.unwrap().path());
        let is_object = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "sqlite")
                && path.file_stem().is_some_and(|stem| stem != "metadata")
        };
        paths.filter(is_object).collect()
    }

    /// Keeps everyone from writing the ledger while the answer lives.
    pub(crate) fn lock_ledger(&self) -> impl Sized + use<> {
        let lock = |path: PathBuf| {
            let ledger = rusqlite::Connection::open(path).unwrap();
            ledger.busy_timeout(Duration::from_secs(5)).unwrap();
            ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
            ledger
        };
        self.ledgers().into_iter().map(lock).collect::<Vec<_>>()
    }

    fn command(&self, listeners: usize) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let variable = |name: &str, value: &str| ["--variable".to_owned(), format!("{name}={value}")];
        let file = |name: &str| format!("@{}", self.dir.path().join(name).display());
        let mut command = Command::new(runner());
        command.current_dir(root).args(["up", "--from", "spin.toml", "--state-dir"]).arg(self.state_path());
        if let Some(worker) = &self.worker {
            command.arg("--worker").arg(worker);
        }
        for _ in 0..listeners {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(variable("config", &file("tollgate.toml"))).args(variable("admin_token", ADMIN_TOKEN));
        if is_workerd() {
            command.args(variable("config_2", &file("tollgate-2.toml")));
        }
        command.args(variable("read_token", READ_TOKEN)).args(variable("agents_sk", AGENTS_SK));
        command.args(variable("gateway_secret", GATEWAY_SECRET)).args(variable("backend_auth", BACKEND_AUTH));
        // Any variable that is declared may hold a secret: the second one rotates.
        command.args(variable("webhook_secret", SECRET)).args(variable("koogallery_ak", NEXT_SECRET));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the runner on this state and waits until it is ready.
    pub(crate) async fn try_start(&self) -> Result<Gateway, String> {
        Ok(self.try_start_with(1).await?.remove(0))
    }

    /// Two gateways on this state: two runners, or on workerd, where objects live in one process, two Workers.
    pub(crate) async fn start_pair(&self) -> [Gateway; 2] {
        if !is_workerd() {
            return [self.start().await, self.start().await];
        }
        let pair = self.try_start_with(2).await.unwrap_or_else(|error| panic!("{error}"));
        pair.try_into().unwrap_or_else(|_| panic!("two listen"))
    }

    /// Starts a runner that is told when a file may not grow, as by a full disk, where the kernel would end it.
    pub(crate) async fn start_told_of_limits(&self) -> Gateway {
        let runner = self.command(1);
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(runner.get_program()).args(runner.get_args());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.serving(command, 1).await.unwrap_or_else(|error| panic!("{error}")).remove(0)
    }

    async fn try_start_with(&self, listeners: usize) -> Result<Vec<Gateway>, String> {
        self.serving(self.command(listeners), listeners).await
    }

    async fn serving(&self, command: Command, listeners: usize) -> Result<Vec<Gateway>, String> {
        let gateways = tokio::task::spawn_blocking(move || start(command, listeners)).await.unwrap()?;
        let gateway = &gateways[0];
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let ready = gateway.call("GET", "/_tollgate/readyz").try_send().await;
            match ready {
                Ok(reply) if reply.status == 200 => return Ok(gateways),
                _ if Instant::now() > deadline => return Err(format!("never ready: {ready:?}, {}", gateway.log())),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// As [`Home::try_start`], for cases that cannot go on without it.
    pub(crate) async fn start(&self) -> Gateway {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs the runner with a config that it must refuse, and returns what it said.
    pub(crate) async fn refused(&self) -> String {
        let command = self.command(1);
        let outcome = tokio::task::spawn_blocking(move || start(command, 1)).await.unwrap();
        match outcome {
            Ok(gateways) => panic!("it serves http://{}", gateways[0].address),
            Err(said) => said,
        }
    }
}

/// The runner's path; the caller has checked that it is there.
pub(crate) fn runner() -> PathBuf {
    let launcher = if is_workerd() { "scripts/workerd.mjs" } else { "target/release/tollgate-host" };
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(launcher);
    std::env::var_os("TOLLGATE_HOST_BIN").map_or(built, PathBuf::from)
}

/// Whether the suite starts workerd, by a launcher that takes the runner's flags.
pub(crate) fn is_workerd() -> bool {
    std::env::var_os("TOLLGATE_EDGE").is_some_and(|edge| edge == "workerd")
}

/// What is missing to start the runner, in words for the person who runs the suite.
pub(crate) fn missing_artefact() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = root.join("spin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap_or_default();
    let sources = text.lines().filter_map(|line| line.trim().strip_prefix("source = \"")?.split('"').next());
    let components: Vec<PathBuf> =
        if is_workerd() { vec![root.join("worker/build/index.js")] } else { sources.map(|source| root.join(source)).collect() };
    let missing = [runner(), manifest].into_iter().chain(components).find(|path| !path.exists())?;
    Some(format!("{} is missing: run `make build` first, or set TOLLGATE_URL to a running gateway", missing.display()))
}

/// Waits for the runner's `Serving` line; an error is what it said when it ended without one.
fn start(mut command: Command, listeners: usize) -> Result<Vec<Gateway>, String> {
    let mut child = command.spawn().map_err(|error| format!("cannot start the runner: {error}"))?;
    let log = Arc::new(Mutex::new(String::new()));
    let (lines, serving) = std::sync::mpsc::channel();
    let stdout = child.stdout.take().unwrap();
    let stderr = child.stderr.take().unwrap();
    let copied = Arc::clone(&log);
    let copier = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            copied.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.trim().strip_prefix("Serving http://") {
                let _ = lines.send(address.trim_end_matches('/').to_owned());
            }
        }
    });
    let process = Arc::new(Process { child: Mutex::new(child), log });
    let addresses: Result<Vec<String>, _> = (0..listeners).map(|_| serving.recv_timeout(START_DEADLINE)).collect();
    match addresses {
        Ok(addresses) => addresses.iter().map(|address| listening(address, &process)).collect(),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("no `Serving` line in {START_DEADLINE:?}: {}", process.log.lock().unwrap()))
        }
        // It closed its output, so it has ended or is about to.
        Err(RecvTimeoutError::Disconnected) => {
            let status = process.child.lock().unwrap().wait().unwrap();
            let _ = copier.join();
            Err(format!("it ended with {status} and said: {}", process.log.lock().unwrap()))
        }
    }
}

fn listening(address: &str, process: &Arc<Process>) -> Result<Gateway, String> {
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok(Gateway { address, admin_token: ADMIN_TOKEN.into(), process: Some(Arc::clone(process)) })
}

impl Gateway {
    /// One that runs already.
    pub(crate) fn running(url: &str, admin_token: String) -> Result<Self, String> {
        let authority = url.trim_end_matches('/').strip_prefix("http://").ok_or("TOLLGATE_URL is not http://host:port")?;
        let mut addresses = authority.to_socket_addrs().map_err(|error| format!("TOLLGATE_URL: {error}"))?;
        let address = addresses.next().ok_or("TOLLGATE_URL has no address")?;
        Ok(Self { address, admin_token, process: None })
    }

    /// A request with nothing but what HTTP needs.
    pub(crate) fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.address, method, target)
    }

    /// A request to the control API, `path` below its version.
    pub(crate) fn control(&self, method: &str, path: &str) -> Call {
        let authorization = format!("Bearer {}", self.admin_token);
        self.call(method, &format!("/_tollgate/v1{path}")).header("authorization", authorization)
    }

    /// A read of the control API that must succeed.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let reply = self.control("GET", path).send().await;
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    /// A write to the control API with a JSON body.
    pub(crate) async fn write(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.control(method, path).header("content-type", "application/json").body(body.to_string()).send().await
    }

    /// Ticks until nothing more is due.
    pub(crate) async fn tick(&self) {
        super::eventually("tick says that nothing more is due", || async {
            let reply = self.write("POST", "/tick", &serde_json::json!({})).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.json()["more"] == false
        })
        .await;
    }

    /// Checks that what the ledger's entries say of a customer is what the balances say.
    pub(crate) async fn assert_balanced(&self, customer_id: &str) {
        let audit = self.read(&format!("/audit?customer_id={customer_id}")).await;
        assert_eq!(audit["balanced"], true, "{audit}");
        assert_eq!(audit["differences"], serde_json::json!([]));
    }

    fn process(&self) -> &Process {
        self.process.as_deref().unwrap_or_else(|| panic!("this gateway was not started here"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process().child.lock().unwrap().id()
    }

    /// The most memory that the process had resident since [`Gateway::forget_peak`]. The kernel counts it roughly: of two readings the later one may be a
    /// little less.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Has the kernel count the peak from here on.
    pub(crate) fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    pub(crate) fn log(&self) -> String {
        self.process().log.lock().unwrap().clone()
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        let mut child = self.process().child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Lets files grow to so many bytes, or `unlimited`.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let limit = format!("--fsize={bytes}:");
        let limited = Command::new("prlimit").args(["--pid", &self.pid().to_string(), &limit]).status().unwrap();
        assert!(limited.success());
    }

    /// SIGTERM; returns at once.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process has left by itself.
    pub(crate) async fn left(&self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.process().child.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
