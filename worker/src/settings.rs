//! What the deployment says: the configuration, its secrets, and the names and homes of objects. Read once an isolate.

use std::cell::OnceCell;

use tollgate::config::{self, Config};
use tollgate::ids::CustomerId;
use worker::{Env, Stub};

use crate::log;

/// The configuration's text binding. Cloudflare bounds a binding's length: `CONFIG_2`, `CONFIG_3` and so on continue it.
const CONFIG: &str = "CONFIG";

/// The most bindings that a configuration comes in.
const CONFIG_PARTS_MAX: usize = 64;

/// The name of what is not per customer.
const INDEX_NAME: &str = "index";

thread_local! {
    // Leaked on purpose: it lives as long as the isolate.
    static SETTINGS: OnceCell<Option<&'static Settings>> = const { OnceCell::new() };
}

/// An isolate's settings.
pub(crate) struct Settings {
    /// As it was written.
    pub(crate) config: Config,
    /// For a customer's object: it tells its order hook, and the index tells everybody else.
    pub(crate) account_config: Config,
    /// For the index.
    pub(crate) index_config: Config,
    /// Tells deployments of one script apart.
    environment: String,
    /// Where objects are made that are not there yet; where they were asked for first, if nothing is said.
    location_hint: Option<String>,
}

impl Settings {
    /// None where the configuration is wrong; the log says so once an isolate.
    pub(crate) fn get(env: &Env) -> Option<&'static Self> {
        SETTINGS.with(|cell| {
            *cell.get_or_init(|| match read(env) {
                Ok(settings) => Some(Box::leak(Box::new(settings))),
                Err(error) => {
                    log::line(&format!("the configuration is not valid: {error}"));
                    None
                }
            })
        })
    }

    /// A customer's object.
    pub(crate) fn account(&self, env: &Env, customer_id: &CustomerId) -> worker::Result<Stub> {
        self.stub(env, "ACCOUNT", &format!("{}/{customer_id}", self.environment))
    }

    /// What is not per customer.
    pub(crate) fn index(&self, env: &Env) -> worker::Result<Stub> {
        self.stub(env, "INDEX", &format!("{}/{INDEX_NAME}", self.environment))
    }

    fn stub(&self, env: &Env, binding: &str, name: &str) -> worker::Result<Stub> {
        let namespace = env.durable_object(binding)?;
        match &self.location_hint {
            Some(hint) => namespace.get_by_name_with_location_hint(name, hint),
            None => namespace.get_by_name(name),
        }
    }
}

fn read(env: &Env) -> Result<Settings, config::ConfigError> {
    let variable = |name: &str| env.var(name).ok().map(|value| value.to_string()).filter(|value| !value.is_empty());
    let continued = (2..=CONFIG_PARTS_MAX).map_while(|part| variable(&format!("{CONFIG}_{part}")));
    let text = std::iter::once(variable(CONFIG).unwrap_or_default()).chain(continued).collect::<Vec<_>>().join("\n");
    let lookup = |name: &str| env.secret(&name.to_uppercase()).ok().map(|secret| secret.to_string());
    let config = config::check(&text, &lookup)?;
    let mut account_config = config::check(&text, &lookup)?;
    account_config.webhooks.clear();
    let mut index_config = config::check(&text, &lookup)?;
    index_config.repurchase = None;
    for warning in &config.warnings {
        log::line(warning);
    }
    Ok(Settings {
        config,
        account_config,
        index_config,
        environment: variable("ENVIRONMENT").unwrap_or_else(|| "production".to_owned()),
        location_hint: variable("LOCATION_HINT"),
    })
}
