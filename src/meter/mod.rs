//! What a call costs that is metered by usage: how much to hold before it is forwarded, and what its reply says was used (contract sections 1 and 3).
//!
//! A [`UsageMeter`] is a product's meter. It reads a request ([`RequestReading`]: the hold, what is metered of the request, and whether the backend must
//! be asked for usage), then the reply as it passes ([`ReplyMeter`]), and [`charge`] says what the call is charged by how the reply ended.
//!
//! What always holds: sums are exact and rounded up once per call; a value that is negative, no number or absurd is no usage; the answer does not
//! depend on where chunks are cut; and memory is bounded by the configuration, not by what a body holds.
//!
//! The border: bytes in, quantities out. There is no I/O here, nothing waits, and what becomes of a charge is the ledger's.

mod amount;
mod blocks;
mod charge;
mod coding;
mod gate;
mod path;
mod plan;
mod reply;
mod request;
mod scanner;
mod search;
mod sse;
mod tariff;
#[cfg(test)]
mod tests;
mod text;

pub use amount::{FACTOR_ACCEPTED, Factor};
pub use charge::{Ending, UsageCharge, charge};
pub use path::{PATH_ACCEPTED, Path};
pub use plan::Measure;
pub use reply::ReplyMeter;
pub use request::{HoldRule, RequestReading};
pub use tariff::{Item, Overrun, ShortHold, Source, Usage, UsageMeter, UsageSettings};
