//! Tollgate: a gateway that sells an API by the package.

pub mod book;
pub mod caller;
pub mod config;
pub mod control;
pub mod courier;
mod edge;
pub mod gateway;
pub mod ids;
pub mod ledger;
pub mod meter;
mod object;
pub mod problem;
pub mod quantity;
pub mod relay;
pub mod secret;
pub mod sorted;
mod step_aside;
pub mod store;
mod timestamp;
