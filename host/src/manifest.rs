//! `spin.toml`, read once and checked: one application with one HTTP component behind a catch-all route.
//!
//! A key this runner does not honour is an error that names it, never silently ignored: a manifest
//! that starts here means the same here as on Spin. The build table is Spin's alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A manifest this runner can serve.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The directory every relative path in the manifest starts from.
    pub(crate) directory: PathBuf,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) component: Component,
}

/// An application variable as declared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) required: bool,
    #[serde(default, rename = "secret")]
    _secret: bool,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// The one component.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    pub(crate) source: PathBuf,
    #[serde(default)]
    pub(crate) files: Vec<String>,
    #[serde(default)]
    pub(crate) allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    pub(crate) sqlite_databases: Vec<String>,
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default, rename = "build")]
    _build: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    spin_manifest_version: u64,
    #[serde(rename = "application")]
    _application: Application,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    trigger: Triggers,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Application {
    #[serde(rename = "name")]
    _name: String,
    #[serde(default, rename = "version")]
    _version: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default, rename = "authors")]
    _authors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpTrigger {
    #[serde(default, rename = "id")]
    _id: String,
    route: String,
    component: String,
}

/// Why a manifest cannot be served. All are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path}: {key}: {problem}")]
    Unsupported { path: PathBuf, key: String, problem: String },
}

impl Manifest {
    /// Reads the manifest at `from`, which may also be the directory it is in.
    pub(crate) fn read(from: &Path) -> Result<Self, ManifestError> {
        let path = if from.is_dir() { from.join("spin.toml") } else { from.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|source| ManifestError::Read { path: path.clone(), source })?;
        Self::parse(&text, &path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let mut document: Document =
            toml::from_str(text).map_err(|source| ManifestError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let unsupported =
            |key: &str, problem: String| ManifestError::Unsupported { path: path.to_owned(), key: key.to_owned(), problem };
        if document.spin_manifest_version != 2 {
            return Err(unsupported("spin_manifest_version", format!("{} is not 2", document.spin_manifest_version)));
        }
        let [trigger] = document.trigger.http.as_slice() else {
            return Err(unsupported("trigger.http", format!("{} triggers where one is supported", document.trigger.http.len())));
        };
        if trigger.route != "/..." {
            return Err(unsupported("trigger.http.route", format!("{:?} is not the catch-all \"/...\"", trigger.route)));
        }
        let Some(component) = document.component.remove(&trigger.component) else {
            return Err(unsupported("trigger.http.component", format!("there is no component {:?}", trigger.component)));
        };
        if let Some(other) = document.component.keys().next() {
            return Err(unsupported(&format!("component.{other}"), "only one component is supported".to_owned()));
        }
        if let Some(other) = component.sqlite_databases.iter().find(|name| *name != "default") {
            return Err(unsupported("sqlite_databases", format!("{other:?} is not \"default\"")));
        }
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { directory, variables: document.variables, component })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        spin_manifest_version = 2
        [application]
        name = "a"
        [variables]
        token = { default = "", secret = true }
        [[trigger.http]]
        route = "/..."
        component = "c"
        [component.c]
        source = "c.wasm"
        sqlite_databases = ["default"]
        [component.c.build]
        command = "true"
    "#;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text, Path::new("app/spin.toml"))
    }

    #[test]
    fn a_single_component_manifest_is_read() {
        let manifest = parse(GOOD).unwrap();
        assert_eq!(manifest.directory, PathBuf::from("app"));
        assert_eq!(manifest.component.source, PathBuf::from("c.wasm"));
        assert_eq!(manifest.variables["token"].default.as_deref(), Some(""));
    }

    #[test]
    fn what_is_not_supported_is_an_error_that_names_the_key() {
        for (from, to, key) in [
            ("\"/...\"", "\"/a\"", "route"),
            ("version = 2", "version = 1", "spin_manifest_version"),
            ("[\"default\"]", "[\"other\"]", "sqlite_databases"),
            ("source = \"c.wasm\"", "source = \"c.wasm\"\nkey_value_stores = []", "key_value_stores"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
