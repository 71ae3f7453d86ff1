//! The configuration: one TOML text, checked once into types that cannot be wrong.
//!
//! What always holds: a [`Config`] that exists is right in every value, and a text that is wrong in one names that key in one line without
//! telling a secret. The border: text and a way to look secrets up in, types out; reading files and variables is the edge's, and nothing here is read again per
//! call except [`Config::route`] and [`Config::product`], which allocate nothing.

mod error;
mod types;

pub use error::ConfigError;
pub use types::{Backend, ChargeWhen, Config, Durability, Gateway, LostHold, Meter, MissingRequestId, Product, Route};
