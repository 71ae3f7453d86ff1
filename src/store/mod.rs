//! The store: accounts as rows, and decisions as one transaction each.
//!
//! It owns the schema and every statement. It applies data and decides nothing: what a commit writes, the ledger decided. A commit
//! inserts rows into views whose triggers check that no account changed since it was loaded and write the tables, mostly in one statement and always in
//! one transaction; so a decision, its entries, its events, its orders and its metrics are durable together or not at all.
//!
//! What always holds: an account's `version` goes up with every commit that touches the account or any of its calls; a call's request id is
//! claimed by its row's primary key; a package's counters obey the checks of its table whatever was decided.
//!
//! The border: [`Database`] runs statements; each edge has its own. Nothing here waits or retries.

mod commit;
mod database;
mod events;
mod folding;
mod load;
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
pub use load::{LoadRequest, Refreshed, Stored, create_account, load, written_since};
pub use schema::{is_prepared, prepare, prepare_managed};
