//! The gateways under test: the one that only forwards and the metered one, on the bundled runner, on Spin or on workerd.
//!
//! A metered gateway is set up through the control API alone, and asked at the end whether it charged what the callers saw.

use crate::error::BenchError;
use crate::http;
use crate::load::customer_id;
use crate::process::{Process, free_address};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How many customers share the calls, where nothing else is said.
pub(crate) const CUSTOMERS: u64 = 100;
/// What each customer is granted: more than a run can use.
pub(crate) const GRANTED: u64 = 1_000_000_000;
/// How instances are reused, of every gateway alike: as the README advises where many calls come.
const REUSE: [&str; 4] = ["--max-instance-reuse-count", "10000", "--max-instance-concurrent-reuse-count", "128"];
const TOKEN: &str = "bench-token";
/// Signs nothing that anyone reads.
const SIGNING_SECRET: &str = "whsec_YmVuY2htYXJrLXNpZ25pbmctc2VjcmV0";
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// More pages than the customers of any run can have.
const AUDIT_PAGE_LIMIT: usize = 1000;

/// What runs the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Runner,
    Spin,
    Workerd,
}

impl Edge {
    /// The program, and its flag for what it is to run.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Runner => ("target/release/tollgate-host", "--from"),
            Self::Spin => ("spin", "--from"),
            Self::Workerd => ("scripts/workerd.mjs", "--worker"),
        }
    }

    fn metered(self) -> &'static str {
        if self == Self::Workerd { "worker" } else { "spin.toml" }
    }

    fn forward(self) -> &'static str {
        if self == Self::Workerd { "bench/forward-worker" } else { "bench/forward/spin.toml" }
    }
}

/// A started gateway; it ends when dropped.
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// How many customers it was set up with.
    customers: u64,
    _process: Process,
}

fn start(edge: Edge, name: &str, run: &str, variables: &[String], work: &Path) -> Result<Gateway, BenchError> {
    let (program, flag) = edge.program();
    let mut command = Command::new(program);
    let asked = if edge == Edge::Spin { free_address()?.to_string() } else { "127.0.0.1:0".into() };
    command.args(["up", "--listen", &asked, flag, run, "--state-dir"]).arg(work.join(name)).args(REUSE);
    command.args(variables.iter().flat_map(|variable| ["--variable", variable.as_str()]));
    let (process, address) = Process::serving(name, command, work)?;
    Ok(Gateway { name: name.to_owned(), address, customers: 0, _process: process })
}

/// Starts the gateway that only forwards. What becomes of bodies is one of the words of `bench/forward/spin.toml`; the Worker hands them over.
pub(crate) fn forward(edge: Edge, name: &str, bodies: &str, backend: SocketAddr, work: &Path) -> Result<Gateway, BenchError> {
    start(edge, name, edge.forward(), &[format!("backend=http://{backend}"), format!("bodies={bodies}")], work)
}

/// How a metered gateway is set up.
#[derive(Clone, Copy)]
pub(crate) struct Metered<'a> {
    pub(crate) durability: &'a str,
    /// The product's `meter`.
    pub(crate) meter: &'a str,
    /// More keys of the product.
    pub(crate) product: &'a str,
    /// Where every event is posted.
    pub(crate) webhook: Option<SocketAddr>,
    /// How many customers are funded.
    pub(crate) customers: u64,
}

/// One unit a call.
pub(crate) const BY_CALL: Metered<'static> =
    Metered { durability: "process", meter: r#"{ unit = "call" }"#, product: "", webhook: None, customers: CUSTOMERS };

impl Metered<'_> {
    fn config(&self, backend: SocketAddr) -> String {
        let Self { durability, meter, product, webhook, .. } = self;
        let webhook = webhook.map(|address| {
            format!(
                "[[webhook]]\nurl = \"http://{address}/\"\nsecrets = [{{ secret = \"webhook_secret\" }}]\nevents = [\"*\"]\n\n"
            )
        });
        format!(
            "[gateway]\nadmin_token = {{ secret = \"admin_token\" }}\ndurability = \"{durability}\"\n\n{}[[product]]\nid = \"translate\"\n\
             route = \"/translate\"\nbackend = \"http://{backend}\"\ncaller = {{ kind = \"none\" }}\nmeter = {meter}\n{product}\n",
            webhook.unwrap_or_default()
        )
    }
}

/// Starts the metered gateway with funded customers.
pub(crate) async fn metered(
    edge: Edge,
    name: &str,
    metered: &Metered<'_>,
    backend: SocketAddr,
    work: &Path,
) -> Result<Gateway, BenchError> {
    let config = work.join(format!("{name}.toml"));
    std::fs::write(&config, metered.config(backend)).map_err(|error| BenchError::Io("a config file", error))?;
    let variables =
        [format!("config=@{}", config.display()), format!("admin_token={TOKEN}"), format!("webhook_secret={SIGNING_SECRET}")];
    let gateway = Gateway { customers: metered.customers, ..start(edge, name, edge.metered(), &variables, work)? };
    for n in 0..metered.customers {
        let customer = customer_id(n);
        let package = json!({ "customer_id": customer, "product_id": "translate", "quantity": GRANTED.to_string() });
        gateway.control("PUT", &format!("/packages/{customer}-package"), &package.to_string()).await?;
    }
    Ok(gateway)
}

impl Gateway {
    async fn control(&self, method: &str, path: &str, body: &str) -> Result<Value, BenchError> {
        let wrong = |what: String| BenchError::WrongReply { name: self.name.clone(), what: format!("{method} {path}: {what}") };
        let reply = http::once(self.address, method, &format!("/_tollgate/v1{path}"), TOKEN, "application/json", body).await;
        let (status, body) = reply.map_err(|error| wrong(error.to_string()))?;
        if !(200..300).contains(&status) {
            return Err(wrong(format!("{status} {}", String::from_utf8_lossy(&body))));
        }
        serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
    }

    /// Whole units charged so far to all customers.
    async fn charged(&self) -> Result<u64, BenchError> {
        let mut sum = 0;
        for n in 0..self.customers {
            let balance = self.control("GET", &format!("/customers/{}/balance", customer_id(n)), "").await?;
            let products = balance.get("products").and_then(Value::as_array).into_iter().flatten();
            let used = products.filter_map(|product| product.get("used")?.as_str()?.parse::<u64>().ok());
            sum += used.sum::<u64>();
        }
        Ok(sum)
    }

    /// Checks that every reply was charged once and nothing else was, and that the ledger's entries say the same.
    pub(crate) async fn check_charges(&self, units: u64) -> Result<(), BenchError> {
        let unbalanced = |what: String| BenchError::Unbalanced { name: self.name.clone(), what };
        let begin = Instant::now();
        // A settle may follow its reply.
        loop {
            // Counting takes its time where each customer has an object that must be woken.
            let is_last = begin.elapsed() > SETTLE_LIMIT;
            let charged = self.charged().await?;
            if charged == units {
                break;
            }
            if is_last {
                return Err(unbalanced(format!("{units} units were used, {charged} charged")));
            }
        }
        let mut cursor = String::new();
        for _ in 0..AUDIT_PAGE_LIMIT {
            let audit = self.control("GET", &format!("/audit{cursor}"), "").await?;
            if audit.get("balanced") != Some(&Value::Bool(true)) {
                return Err(unbalanced(audit.to_string()));
            }
            match audit.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("?cursor={next}"),
                None => return Ok(()),
            }
        }
        Err(unbalanced("the audit does not end".into()))
    }
}
