//! Tokens, paths and methods.

use super::{Desk, refusal};
use crate::control::{ROUTES, Request, refused};

#[test]
fn nothing_is_answered_without_a_valid_token() {
    let desk = Desk::open();
    for token in
        [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Bearer x"), Some("Basic admin-token"), Some("admin-token")]
    {
        for path in ["/_tollgate/v1/customers", "/_tollgate/v1/nowhere", "/_tollgate"] {
            let response = desk.send("GET", path, token, "");
            assert_eq!(refusal(&response), (401, "unauthorized".to_owned()), "{path} {token:?}");
            assert_eq!(response.headers, [("WWW-Authenticate", "Bearer".to_owned())]);
        }
    }
    assert_eq!(desk.send("GET", "/_tollgate/v1/customers", Some("bearer admin-token"), "").status, 200);
}

#[test]
fn the_read_token_only_reads() {
    let desk = Desk::open();
    for path in ["customers", "metrics", "audit"] {
        assert_eq!(desk.send("GET", &format!("/_tollgate/v1/{path}"), Some("Bearer read-token"), "").status, 200, "{path}");
    }
    let response = desk.send("POST", "/_tollgate/v1/tick", Some("Bearer read-token"), "");
    assert_eq!(refusal(&response), (403, "unauthorized".to_owned()));
    let response = desk.send("PUT", "/_tollgate/v1/packages/p", Some("Bearer read-token"), "not even JSON");
    assert_eq!(refusal(&response), (403, "unauthorized".to_owned()));
}

#[test]
fn health_and_readiness_need_no_token() {
    let desk = Desk::open();
    for path in ["/_tollgate/healthz", "/_tollgate/readyz"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(desk.send(method, path, None, "").status, 200, "{method} {path}");
        }
        assert_eq!(refusal(&desk.send("POST", path, None, "")), (405, "method_not_allowed".to_owned()));
    }
    assert_eq!(desk.send("GET", "/_tollgate/healthz", None, "").body, r#"{"status":"ok"}"#);
}

#[test]
fn a_wrong_path_is_not_found_and_a_wrong_method_is_told_the_right_ones() {
    let desk = Desk::open();
    assert_eq!(refusal(&desk.ask("GET", "/nowhere", "")), (404, "not_found".to_owned()));
    let response = desk.ask("DELETE", "/packages/p", "");
    assert_eq!(refusal(&response), (405, "method_not_allowed".to_owned()));
    assert_eq!(response.headers, [("Allow", "PUT, GET, HEAD, PATCH".to_owned())]);
}

#[test]
fn an_unusable_ledger_is_a_503_whose_reason_is_only_logged() {
    use crate::store::Database;
    let desk = Desk::open();
    desk.book.database().execute("DROP TABLE packages", &[]).unwrap();
    let response = desk.ask("GET", "/packages/p", "");
    assert_eq!(refusal(&response), (503, "ledger_unavailable".to_owned()));
    assert_eq!(response.headers, [("Retry-After", "1".to_owned())]);
    assert!(response.log.unwrap().contains("no such table"));
    assert!(!response.body.contains("table"));
}

#[test]
fn what_is_refused_is_refused_before_anything_is_looked_at() {
    let desk = Desk::open();
    let tokens = [None, Some("Bearer x"), Some("Bearer read-token"), Some("Bearer admin-token")];
    let methods = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "BREW"];
    let paths = ROUTES.iter().map(|(_, template)| *template).chain(["/_tollgate", "/_tollgate/v1/nowhere"]);
    for (path, method, token) in paths.flat_map(|path| methods.map(|method| tokens.map(|token| (path, method, token)))).flatten()
    {
        let request = Request { method, path, query: None, authorization: token.map(str::as_bytes), body: b"{" };
        let handled = desk.send(method, path, token, "{");
        match refused(&desk.config, &request) {
            Some(refused) => assert_eq!(refused, handled, "{method} {path} {token:?}"),
            None => assert!(!matches!(handled.status, 401 | 403 | 405), "{method} {path} {token:?}: {}", handled.status),
        }
    }
}

#[test]
fn a_path_with_a_dot_segment_is_nobodys_and_an_id_may_have_anything_in_its_own() {
    for path in ["/_tollgate/../x", "/_tollgate/v1/%2e%2E/x", "/_tollgate/v1/.", "/_tollgatex"] {
        assert!(!crate::control::owns(path), "{path}");
    }
    for path in [
        "/_tollgate",
        "/_tollgate/v1/customers/a%2F..%2Fb/balance",
        "/_tollgate/v1/packages/..%3Bx",
        "/_tollgate/v1/packages/...",
    ] {
        assert!(crate::control::owns(path), "{path}");
    }
}
