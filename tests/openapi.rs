//! `openapi.yaml` says what the control API does, no more and no less.
//!
//! The file is read by its lines: it is kept in block style, two spaces a level, and a file in another style fails here.

use std::collections::BTreeSet;

use tollgate::control::ROUTES;
use tollgate::problem::Code;

const DOCUMENT: &str = include_str!("../openapi.yaml");

/// Every key of the document with the keys above it.
fn keys() -> Vec<Vec<&'static str>> {
    let mut path: Vec<&str> = Vec::new();
    let mut keys = Vec::new();
    for line in DOCUMENT.lines() {
        let text = line.trim_start();
        let Some((key, _)) = text.split_once(':').filter(|(key, _)| !key.starts_with(['#', '-']) && !key.contains(' ')) else {
            continue;
        };
        let level = (line.len() - text.len()) / 2;
        path.truncate(level);
        path.push(key.trim_matches('"'));
        if path.len() == level + 1 {
            keys.push(path.clone());
        }
    }
    keys
}

/// Every (METHOD, path template) that is described.
fn operations() -> BTreeSet<(String, String)> {
    let methods = ["get", "put", "post", "patch", "delete", "head", "options", "trace"];
    let described = keys().into_iter().filter_map(|key| match key.as_slice() {
        ["paths", path, method] if methods.contains(method) => Some((method.to_uppercase(), (*path).to_owned())),
        _ => None,
    });
    described.collect()
}

/// The values of the lines that start with `prefix`.
fn values(prefix: &str) -> Vec<&'static str> {
    DOCUMENT.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix(prefix)).collect()
}

#[test]
fn what_is_described_is_what_is_routed() {
    let routed: BTreeSet<_> = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(routed.len(), ROUTES.len(), "a route is there twice");
    assert_eq!(operations(), routed);
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    let defined: BTreeSet<String> = keys()
        .iter()
        .filter_map(|key| match key.as_slice() {
            ["components", kind, name] if *kind != "securitySchemes" => Some(format!("#/components/{kind}/{name}")),
            _ => None,
        })
        .collect();
    let referred: BTreeSet<String> = values("$ref: ").into_iter().map(|value| value.trim_matches('"').to_owned()).collect();
    assert!(defined.len() > 30, "{defined:?}");
    assert_eq!(defined, referred);
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let names = values("operationId: ");
    assert_eq!(names.len(), operations().len(), "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}

#[test]
fn every_parameter_of_a_path_is_described() {
    for (_, path) in operations() {
        let variables = path.split('/').filter(|segment| segment.starts_with('{')).count();
        let level_path = format!("  {path}:");
        let described =
            DOCUMENT.lines().skip_while(|line| *line != level_path).skip(1).take_while(|line| line.starts_with("    "));
        let names: Vec<_> = described
            .skip_while(|line| *line != "    parameters:")
            .skip(1)
            .take_while(|line| line.starts_with("      - "))
            .collect();
        assert_eq!(names.iter().filter(|name| !name.contains("ProductIdOfCall")).count(), variables, "{path}: {names:?}");
    }
}

#[test]
fn the_codes_that_are_described_are_codes_of_problems() {
    let known = [
        Code::Invalid,
        Code::Unauthorized,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::Conflict,
        Code::BodyTooLarge,
        Code::Internal,
        Code::LedgerUnavailable,
        Code::ConfigInvalid,
    ];
    let described: BTreeSet<&str> =
        DOCUMENT.rsplit("    Code:\n").next().unwrap().lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert_eq!(described, known.iter().map(|code| code.as_str()).collect());
}
