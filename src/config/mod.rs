//! The configuration: one TOML text, checked once into types that cannot be wrong.
//!
//! What always holds: a [`Config`] that exists is right in every value, and a text that is wrong in one names that key in one line without
//! telling a secret. The border: text and a way to look secrets up in, types out; reading files and variables is the edge's, and nothing here is read again per
//! call except [`Config::route`] and [`Config::product`], which allocate nothing.

mod address;
mod caller;
mod document;
mod error;
mod gateway;
mod header;
mod hook;
mod meter;
mod product;
mod secret_names;
mod secrets;
mod section;
#[cfg(test)]
mod tests;
mod types;
mod units;

pub use error::ConfigError;
pub(crate) use hook::EVENT_TYPES;
pub use hook::{EventFilter, HookUrl, RepurchaseHook, SigningSecret, Webhook};
pub use secret_names::secret_names;
pub use types::{Backend, ChargeWhen, Config, Drain, Durability, Gateway, LostHold, Meter, MissingRequestId, Product, Route};
pub(crate) use units::{DURATION_ACCEPTED, duration_ms};

use document::Table;
use secrets::Secrets;
use section::{Keys, Section};

const KEYS: Keys = Keys { known: &["gateway", "webhook", "repurchase", "product"], unavailable: &["koogallery"] };

/// The longest configuration.
const TEXT_LENGTH_MAX: usize = 1 << 20;

/// The most products: a call looks through their routes one by one.
const PRODUCTS_MAX: usize = 1000;

/// Checks a configuration. `lookup` answers a secret's value by its name; none and an empty one are the same.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    if text.len() > TEXT_LENGTH_MAX {
        return Err(ConfigError::TooLong { limit_bytes: TEXT_LENGTH_MAX });
    }
    let table = Table::parse(text)?;
    let root = Section::open(String::new(), &table, KEYS)?;
    let secrets = Secrets(lookup);
    let mut warnings = Vec::new();
    let gateway = gateway::read(&root, secrets, &mut warnings)?;
    let webhooks = hook::webhooks(&root, secrets)?;
    let repurchase = hook::repurchase(&root, secrets)?;
    let mut products: Vec<Product> = Vec::new();
    for (position, value) in (1..).zip(root.required_list("product", PRODUCTS_MAX, "[[product]]")?) {
        let product = product::read(position, value, secrets, &mut warnings)?;
        refuse_duplicates(&products, &product, position)?;
        products.push(product);
    }
    Ok(Config { gateway, products, webhooks, repurchase, warnings })
}

fn refuse_duplicates(earlier: &[Product], product: &Product, position: usize) -> Result<(), ConfigError> {
    let id = product.id.as_str();
    if let Some(other) = earlier.iter().position(|other| other.id == product.id) {
        let holder = format!("product[{}]", other + 1);
        return Err(ConfigError::Duplicate { key: format!("product[{position}].id"), value: format!("{id:?}"), holder });
    }
    if let Some(other) = earlier.iter().find(|other| other.route == product.route) {
        let holder = format!("product[{:?}]", other.id.as_str());
        return Err(ConfigError::Duplicate {
            key: format!("product[{id:?}].route"),
            value: format!("{:?}", product.route.as_str()),
            holder,
        });
    }
    Ok(())
}
