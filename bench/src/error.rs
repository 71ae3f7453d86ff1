//! What can go wrong in a benchmark run. None of it is worth a second try by itself: a run that failed has measured nothing.

use std::fmt;
use std::path::PathBuf;

/// Why a run has no result, or a bad one.
#[derive(Debug)]
pub(crate) enum BenchError {
    /// The person who called it gave an argument that is not accepted.
    Usage(String),
    /// A file or socket of this machine failed.
    Io(&'static str, std::io::Error),
    /// A server under test did not start; the last lines of its log say why.
    NotStarted { name: String, log: PathBuf },
    /// A server under test answered something else than what it must.
    WrongReply { name: String, what: String },
    /// A server under test stopped answering.
    Stalled(String),
    /// The ledger does not show what the callers saw: the gateway has a defect.
    Unbalanced { name: String, what: String },
    /// A stated bound was missed.
    BoundMissed(Vec<String>),
    /// The person who called it pressed Ctrl-C.
    Interrupted,
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => {
                let usage = "tollgate-bench [--rounds N] [--seconds S] [--only scan,replies,streams,hooks,calls,workerd,process,power,hot,peers,16,64]";
                write!(f, "{what}\nusage: {usage}")
            }
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::NotStarted { name, log } => {
                write!(f, "{name} did not start; it said: {}", std::fs::read_to_string(log).unwrap_or_default())
            }
            Self::WrongReply { name, what } => write!(f, "{name} answered: {what}"),
            Self::Stalled(name) => write!(f, "{name} stopped answering"),
            Self::Unbalanced { name, what } => write!(f, "{name}: the ledger does not balance: {what}"),
            Self::BoundMissed(bounds) => write!(f, "missed: {}", bounds.join("; ")),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for BenchError {}
