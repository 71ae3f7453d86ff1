//! From the command line to what instances are given: every check that can be made before listening.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::{Component as PathComponent, Path, PathBuf};
use std::sync::Arc;

use crate::allowed_hosts::{AllowedHostError, AllowedHosts};
use tollgate::config::{self, ConfigError};

use crate::args::Args;
use crate::guest::Grants;
use crate::manifest::{Manifest, ManifestError};
use crate::outbound::{Exchanges, Outbound};
use crate::variables::{VariableError, Variables};

/// The database file of the state directory, named as Spin names it.
const DATABASE_FILE: &str = "sqlite_db.db";
/// Holds the whole configuration; where it is empty, the file beside the manifest does.
const CONFIG_VARIABLE: &str = "config";
const CONFIG_FILE: &str = "tollgate.toml";

/// Why the runner could not start. All are for the operator to mend; none is worth an unchanged retry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Variables(#[from] VariableError),
    #[error(transparent)]
    AllowedHosts(#[from] AllowedHostError),
    #[error("files: {0:?} is not a plain path below the manifest's directory")]
    FileName(String),
    #[error("cannot read or mount {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("--state-dir: cannot create {path}: {error}")]
    StateDirectory { path: PathBuf, error: std::io::Error },
    #[error("the configuration: {0}")]
    Config(ConfigError),
    #[error("component {path}: {error:?}")]
    Component { path: PathBuf, error: wasmtime::Error },
    #[error("cannot listen on {listen}: {error}")]
    Listen { listen: SocketAddr, error: std::io::Error },
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// Reads the manifest and resolves everything it names. Gives the component's file and what its instances may use.
pub(crate) fn prepare(args: Args, exchanges: Exchanges) -> Result<(PathBuf, Grants), StartError> {
    let manifest = Manifest::read(&args.from)?;
    let application = Variables::of_application(&manifest, args.variables)?;
    let variables = application.of_component(&manifest)?;
    let hosts = manifest.component.allowed_outbound_hosts.iter();
    let hosts: Vec<String> = hosts.map(|entry| application.fill("allowed_outbound_hosts", entry)).collect::<Result<_, _>>()?;
    let allowed = AllowedHosts::parse(hosts.iter().map(String::as_str))?;

    check_config(&manifest, &variables)?;

    let state = args.state_dir.unwrap_or_else(|| manifest.directory.join(".spin"));
    let create =
        |path: &Path| std::fs::create_dir_all(path).map_err(|error| StartError::StateDirectory { path: path.to_owned(), error });
    create(&state)?;
    let database = (!manifest.component.sqlite_databases.is_empty()).then(|| Arc::from(state.join(DATABASE_FILE)));
    let files = mount(&manifest, &state)?;
    let grants = Grants { files, database, variables: Arc::new(variables), outbound: Outbound::new(allowed, exchanges) };
    Ok((manifest.directory.join(&manifest.component.source), grants))
}

/// Checks the gateway's configuration where the component is the gateway, which declares the variable for it. The
/// component reads the same text by the same rules; here a mistake is found before anything listens.
fn check_config(manifest: &Manifest, variables: &Variables) -> Result<(), StartError> {
    let Some(given) = variables.get(CONFIG_VARIABLE) else {
        return Ok(());
    };
    let from_file;
    let text = if given.is_empty() {
        let path = manifest.directory.join(CONFIG_FILE);
        from_file = std::fs::read_to_string(&path).map_err(|error| StartError::File { path, error })?;
        from_file.as_str()
    } else {
        given
    };
    let lookup = |name: &str| variables.get(name).map(str::to_owned);
    let config = config::check(text, &lookup).map_err(StartError::Config)?;
    for warning in &config.warnings {
        crate::log(warning);
    }
    Ok(())
}

/// Copies the component's files to a directory that holds nothing else. Its name is made from their content, so a
/// runner beside this one, with other content, has another directory.
fn mount(manifest: &Manifest, state: &Path) -> Result<Option<PathBuf>, StartError> {
    if manifest.component.files.is_empty() {
        return Ok(None);
    }
    let mut contents = Vec::new();
    let mut hasher = DefaultHasher::new();
    for name in &manifest.component.files {
        if !is_plain(name) {
            return Err(StartError::FileName(name.clone()));
        }
        let path = manifest.directory.join(name);
        let content = std::fs::read(&path).map_err(|error| StartError::File { path, error })?;
        (name, &content).hash(&mut hasher);
        contents.push((name, content));
    }
    let root = state.join("files").join(format!("{:016x}", hasher.finish()));
    for (name, content) in contents {
        let path = root.join(name);
        write_once(&path, &content).map_err(|error| StartError::File { path, error })?;
    }
    Ok(Some(root))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['*', '?', '['])
        && Path::new(name).components().all(|part| matches!(part, PathComponent::Normal(_)))
}

/// Written under another name first: whoever sees the file sees it whole.
fn write_once(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let partial = path.with_added_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, content)?;
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_plain_names_below_the_manifest() {
        assert!(is_plain("tollgate.toml") && is_plain("a/b.txt"));
        for name in ["", "/etc/passwd", "../up", "*.toml", "./a/../b"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
