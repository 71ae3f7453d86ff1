//! Who is calling: the credential of one call against the policy of its product.
//!
//! What always holds: a credential that is not wholly right is refused, what is secret is compared in constant time, and no secret and no token leaves
//! this room. The border: values of one header and the time in, yes or a typed no out; finding the header and answering the caller is the gateway's.

mod policy;

pub use policy::{AgentsKey, CallerPolicy};
