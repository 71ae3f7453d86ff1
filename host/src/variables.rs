//! Application variables and the component's own, resolved once before anything starts.
//!
//! A value comes from the command line, else the environment, else the manifest's default. Values
//! may be secrets: no error and no `Debug` of this module shows one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::args::{VariableArg, VariableSource};
use crate::manifest::Manifest;

/// Resolved name-value pairs.
#[derive(Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why variables could not be resolved. All are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VariableError {
    #[error("--variable {0}: the manifest declares no such variable")]
    Undeclared(String),
    #[error("--variable {name}: cannot read {path}: {source}")]
    Read { name: String, path: PathBuf, source: std::io::Error },
    #[error("variable {0} is required and has no value")]
    Missing(String),
    #[error("{key}: {template:?} names the variable {name:?}, which has no value")]
    Unresolved { key: String, template: String, name: String },
    #[error("{key}: {template:?} has an unclosed {{{{")]
    Unclosed { key: String, template: String },
}

impl Variables {
    /// The application's variables.
    pub(crate) fn of_application(manifest: &Manifest, given: Vec<VariableArg>) -> Result<Self, VariableError> {
        let mut values = BTreeMap::new();
        for VariableArg { name, source } in given {
            if !manifest.variables.contains_key(&name) {
                return Err(VariableError::Undeclared(name));
            }
            let value = match source {
                VariableSource::Text(value) => value,
                VariableSource::File(path) => match std::fs::read_to_string(&path) {
                    Ok(value) => value,
                    Err(source) => return Err(VariableError::Read { name, path, source }),
                },
            };
            values.insert(name, value);
        }
        for (name, declared) in &manifest.variables {
            if values.contains_key(name) {
                continue;
            }
            let from_environment = std::env::var(format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase())).ok();
            match from_environment.or_else(|| declared.default.clone()) {
                Some(value) => _ = values.insert(name.clone(), value),
                None if declared.required => return Err(VariableError::Missing(name.clone())),
                None => {}
            }
        }
        Ok(Self(values))
    }

    /// The component's variables, their templates filled from the application's.
    pub(crate) fn of_component(&self, manifest: &Manifest) -> Result<Self, VariableError> {
        let resolve = |(name, template): (&String, &String)| {
            Ok((name.clone(), self.fill(&format!("component variable {name}"), template)?))
        };
        manifest.component.variables.iter().map(resolve).collect::<Result<_, _>>().map(Self)
    }

    /// Fills `{{ name }}` in `template`; `key` says in errors where the template stands.
    pub(crate) fn fill(&self, key: &str, template: &str) -> Result<String, VariableError> {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err(VariableError::Unclosed { key: key.to_owned(), template: template.to_owned() });
            };
            let name = name.trim();
            let Some(value) = self.get(name) else {
                return Err(VariableError::Unresolved {
                    key: key.to_owned(),
                    template: template.to_owned(),
                    name: name.to_owned(),
                });
            };
            filled.push_str(before);
            filled.push_str(value);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables(BTreeMap::from([("host".to_owned(), "a.example".to_owned()), ("empty".to_owned(), String::new())]))
    }

    #[test]
    fn templates_are_filled_wherever_they_stand() {
        assert_eq!(variables().fill("k", "https://{{ host }}:{{empty}}443").unwrap(), "https://a.example:443");
        assert_eq!(variables().fill("k", "plain").unwrap(), "plain");
    }

    #[test]
    fn a_template_that_cannot_be_filled_is_an_error() {
        assert!(matches!(variables().fill("k", "{{ other }}"), Err(VariableError::Unresolved { .. })));
        assert!(matches!(variables().fill("k", "{{ host"), Err(VariableError::Unclosed { .. })));
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let shown = format!("{:?}", variables());
        assert!(shown.contains("host") && !shown.contains("a.example"));
    }
}
