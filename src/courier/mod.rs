//! The courier: it carries what the ledger wrote into its outbox to those who are to know, signed as Standard Webhooks 1.0.0, and brings the answers of
//! the order hook back.
//!
//! It owns the way of a delivery: to whom an event goes, when a post is tried again, what an answer means, and who of several instances posts.
//!
//! What always holds: an event that was committed is posted until it has arrived or its tries are used up, and under the same id each time; of several
//! couriers one sends at a time, by a lease; what an answer of the order hook decides is durable before its delivery counts as delivered, so that a crash
//! in between posts again and decides nothing twice.
//!
//! The border: [`Outside`] posts, waits and tells the time, and each edge has its own. Nothing here opens a socket or asks a clock.

mod lease;
mod order_answer;
mod run;
mod schedule;
mod sender;
mod sign;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;

pub use order_answer::BoughtPackage;
pub use run::{is_due, next_due_ms, run};

/// How long one post may take, from connecting to the last byte of the answer that matters.
pub const POST_TIMEOUT_MS: i64 = 10_000;

/// The longest answer that is read.
pub const REPLY_LENGTH_MAX: usize = 64 * 1024;

/// What the courier needs of the world.
pub trait Outside {
    /// Posts, and waits for the answer without following redirects. The courier gives up after [`POST_TIMEOUT_MS`] by dropping the future.
    fn post(&self, post: &Post) -> impl Future<Output = Result<Reply, Unreached>>;

    /// Unix milliseconds.
    fn now_ms(&self) -> i64;

    /// Waits.
    fn pause_ms(&self, ms: i64) -> impl Future<Output = ()>;
}

/// One message on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Post {
    /// Whether over TLS.
    pub https: bool,
    /// Host, and port where the URL names one.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Headers with lower-case names. The length of the body is the edge's business.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The target and the headers let whoever reads them post too.
        f.debug_struct("Post").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The header `retry-after`.
    pub retry_after: Option<String>,
    /// The body; none where it is longer than [`REPLY_LENGTH_MAX`] or broke off.
    pub body: Option<Vec<u8>>,
}

/// Why there is no answer. The receiver or the way to it causes each; a later try may succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// No answer in time.
    TimedOut,
    /// No connection, or it broke off. The text is for people and says nothing secret.
    Failed(String),
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Unreached {}

/// How much one run does at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// So many posts.
    pub items_max: usize,
    /// No post is begun after so long; those under way are waited for, [`POST_TIMEOUT_MS`] at most.
    pub time_max_ms: i64,
    /// With nothing to send now, how far ahead a retry may lie for the run to wait for it. It sends what is written meanwhile.
    pub stay_ms: i64,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Messages that arrived.
    pub delivered: u64,
    /// Posts that did not arrive.
    pub failed: u64,
    /// Whether something is to be sent now: what the limits left over, or what another courier is at.
    pub more: bool,
    /// Unix milliseconds of the next retry.
    pub next_due_ms: Option<i64>,
}
