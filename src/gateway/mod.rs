//! A call's rules: who calls what, what goes to the backend, what comes back, and what a refusal says (contract section 2).
//!
//! An edge reads a request's [`Head`], lets [`identify`] check it, reserves through the book, forwards what [`Identified`] says, and ends the call as
//! [`Outcome`] says. Each step takes what only the step before can make. What always holds: the order of checks is the contract's, and nothing that
//! a caller sent decides a header that the gateway sets.
//!
//! The border: no I/O and no bodies. Edges move bytes and time.

mod headers;
mod identify;
mod outcome;
mod refusal;
mod reply;

pub use headers::{backend_headers, forget_bytes, reply_headers};
pub use identify::{Head, Identified, Refused, identify};
pub use outcome::{Metering, Outcome, least_hold};
pub use refusal::{RateLimit, refusal_problem};
pub use reply::{ReplyHead, ReplyShape, Tally, UnsendableReply, Way, header_text};

/// The most that path, query and headers of a request may have together. Wasmtime lets a component send 128 KiB, with some 70 bytes counted on top for each
/// of a hundred headers; `backend_headers` may have 32 KiB.
const REQUEST_HEAD_BYTES_MAX: usize = 60 * 1024;

/// The most that the headers of a reply may have together, by the same sum: the gateway adds few.
const REPLY_HEADERS_BYTES_MAX: usize = 110 * 1024;

/// Headers as an edge carries them: lower-case names, values as bytes, in order.
pub type Headers = Vec<(String, Vec<u8>)>;
