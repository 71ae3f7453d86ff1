//! The store: accounts as rows, and decisions as one transaction each.
//!
//! It owns the schema and every statement. It applies data and decides nothing: what a commit writes, the ledger decided. A commit appends steps to the log, mostly
//! in one statement, and the tables follow; what is more than steps is written to the tables with it, in one transaction. So a decision, its entries, its
//! events, its orders and its metrics are durable together or not at all.
//!
//! What always holds: a commit is decided on all commits before it; a request id is claimed once; the tables are what the log says up to where it is applied. Who
//! reads them has them follow first ([`log::apply`]).
//!
//! The border: [`Database`] runs statements; each edge has its own. Nothing here waits or retries.

mod commit;
mod database;
mod events;
mod folding;
mod load;
pub mod log;
mod notices;
mod operation;
pub mod outbox;
mod pruning;
pub mod queries;
pub mod reports;
mod rows;
mod schema;

#[cfg(test)]
pub(crate) mod testing;

pub use commit::{Commit, commit};
pub use database::{Database, StoreError, Value};
pub use folding::{Folded, fold};
pub use load::{LoadRequest, Stored, create_account, load};
pub use schema::{is_prepared, prepare, prepare_managed};
