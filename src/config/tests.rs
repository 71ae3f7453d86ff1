//! What the configuration accepts, and the line with which it refuses the rest.

mod hooks;

use super::{ChargeWhen, Config, Durability, LostHold, Meter, MissingRequestId, check};
use crate::caller::CallerPolicy;
use crate::ids::ProductId;

const GATEWAY: &str = "[gateway]\nadmin_token = { secret = \"admin_token\" }\n";
const PRODUCT: &str = "[[product]]\nid = \"translate\"\nroute = \"/translate\"\nbackend = \"http://127.0.0.1:9000/v1\"\n";
const OPEN: &str = "caller = { kind = \"none\" }\n";

fn lookup(name: &str) -> Option<String> {
    match name {
        "admin_token" => Some("admin-s3cret\n".to_owned()),
        "read_token" | "agents_sk" | "gateway_secret" | "backend_auth" => Some(format!("{name}-s3cret")),
        "webhook_secret" => Some(format!("whsec_{}\n", "QUJD".repeat(8))),
        "other_secret" => Some(format!("whsec_{}==", "QUJD".repeat(21) + "QQ")),
        "short_secret" => Some(format!("whsec_{}", "c2VjcmV0".repeat(3))),
        "long_secret" => Some(format!("whsec_{}", "QUJD".repeat(22))),
        "bare_secret" => Some("QUJD".repeat(8)),
        "broken" => Some("s3cret\nsecond line".to_owned()),
        "blank" => Some("\n".to_owned()),
        "empty" => Some(String::new()),
        _ => None,
    }
}

fn checked(text: &str) -> Config {
    check(text, &lookup).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn refusal(text: &str) -> String {
    let line = check(text, &lookup).map(|_| text.to_owned()).expect_err("a refusal").to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    assert!(!line.contains("s3cret"), "no secret: {line}");
    line
}

/// The smallest configuration with more in its `[gateway]` and its product.
fn with(gateway: &str, product: &str) -> String {
    format!("{GATEWAY}{gateway}\n{PRODUCT}{OPEN}{product}\n")
}

#[test]
fn the_smallest_configuration_has_the_defaults_of_the_contract() {
    let config = checked(&with("", ""));
    let gateway = &config.gateway;
    assert!(gateway.admin_token.matches(b"admin-s3cret"), "without the line ending of its file");
    assert!(gateway.read_token.as_ref().unwrap().matches(b"read_token-s3cret"), "a read token needs no key");
    assert_eq!(gateway.missing_request_id, MissingRequestId::Generate);
    assert_eq!((gateway.hold_lease_ms, gateway.keep_calls_ms), (30_000, 90 * 86_400_000));
    assert_eq!((gateway.lost_hold, gateway.durability), (LostHold::Charge, Durability::Power));
    let product = config.product(&ProductId::new("translate").unwrap()).unwrap();
    assert_eq!((product.timeout_ms, product.idle_timeout_ms), (30_000, 60_000));
    assert_eq!((product.exhausted_status, product.max_request_body_bytes, product.replay_limit), (402, 1 << 20, 1));
    assert_eq!((product.drain.bytes_max, product.drain.time_max_ms), (1 << 20, 30_000));
    assert!(product.backend_headers.is_empty());
    assert_eq!(product.meter, Meter::Call { charge_when: ChargeWhen::Forwarded });
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(
        config.warnings.iter().any(|warning| warning.starts_with("product[\"translate\"].caller.kind")),
        "{:?}",
        config.warnings
    );
}

#[test]
fn every_key_of_the_gateway_and_of_a_per_call_product_is_read() {
    let config = checked(&format!(
        "{GATEWAY}read_token = {{ secret = \"agents_sk\" }}\nmissing_request_id = \"reject\"\nhold_lease = \"1s\"\nlost_hold = \"release\"\n\
         keep_calls = \"30d\"\ndurability = \"process\"\n{PRODUCT}timeout = \"300s\"\nidle_timeout = \"250ms\"\n\
         drain = {{ bytes = \"64 KiB\", time = \"5s\" }}\nexhausted_status = 429\nmax_request_body = \"20 MiB\"\nreplay_limit = 0\n\
         backend_headers = {{ Authorization = {{ secret = \"backend_auth\" }}, x-plan = \"gold\" }}\n\
         caller = {{ kind = \"agents-jwt\", keys = [{{ access_key = \"ak\", secret_key = {{ secret = \"agents_sk\" }} }}] }}\n\
         meter = {{ unit = \"call\", charge_when = \"succeeded\" }}\n"
    ));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let gateway = &config.gateway;
    assert!(gateway.read_token.as_ref().unwrap().matches(b"agents_sk-s3cret"));
    assert_eq!(gateway.missing_request_id, MissingRequestId::Reject);
    assert_eq!((gateway.hold_lease_ms, gateway.keep_calls_ms), (1_000, 30 * 86_400_000));
    assert_eq!((gateway.lost_hold, gateway.durability), (LostHold::Release, Durability::Process));
    let product = &config.products[0];
    assert_eq!((product.timeout_ms, product.idle_timeout_ms), (300_000, 250));
    assert_eq!((product.drain.bytes_max, product.drain.time_max_ms), (64 << 10, 5_000));
    assert_eq!((product.exhausted_status, product.max_request_body_bytes, product.replay_limit), (429, 20 << 20, 0));
    let headers: Vec<_> = product.backend_headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("authorization", "backend_auth-s3cret"), ("x-plan", "gold")]);
    assert_eq!(product.caller.header(), Some("authorization"));
    assert_eq!(product.meter, Meter::Call { charge_when: ChargeWhen::Succeeded });
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
}

#[test]
fn a_shared_secret_has_a_header_of_its_own() {
    let caller = "caller = { kind = \"shared-secret\", secret = { secret = \"gateway_secret\" } }\n";
    let config = checked(&format!("{GATEWAY}{PRODUCT}{caller}"));
    let CallerPolicy::SharedSecret { header, secret } = &config.products[0].caller else {
        panic!("{:?}", config.products[0].caller)
    };
    assert_eq!(header, "x-gateway-secret");
    assert!(secret.matches(b"gateway_secret-s3cret"));
}

#[test]
fn the_longest_route_of_whole_segments_wins() {
    let product =
        |id: &str, route: &str| format!("[[product]]\nid = \"{id}\"\nroute = \"{route}\"\nbackend = \"http://h\"\n{OPEN}");
    let products = product("a", "/a") + &product("ab", "/a/b") + &product("other", "/other");
    let config = checked(&format!("{GATEWAY}{products}"));
    let found = |path: &'static str| config.route(path).map(|(product, below)| (product.id.as_str(), below));
    assert_eq!(found("/a"), Some(("a", "")));
    assert_eq!(found("/a/"), Some(("a", "/")));
    assert_eq!(found("/a/c"), Some(("a", "/c")));
    assert_eq!(found("/a/b"), Some(("ab", "")));
    assert_eq!(found("/a/b/c"), Some(("ab", "/c")));
    assert_eq!(found("/a/bc"), Some(("a", "/bc")));
    assert_eq!(found("/ab"), None);
    assert_eq!(found("/A"), None);
    assert_eq!(found("/"), None);
    assert_eq!(found(""), None);
    let everything = checked(&format!("{GATEWAY}{products}{}", product("root", "/")));
    assert_eq!(everything.route("/x/y").map(|(product, below)| (product.id.as_str(), below)), Some(("root", "/x/y")));
    assert_eq!(everything.route("/a/x").map(|(product, below)| (product.id.as_str(), below)), Some(("a", "/x")));
}

#[test]
fn a_wrong_value_is_refused_with_its_key_the_value_and_what_is_accepted() {
    for (gateway, product, expected) in [
        ("hold_lease = \"999ms\"", "", "gateway.hold_lease: \"999ms\" is not accepted; accepted: a duration"),
        ("hold_lease = 30", "", "gateway.hold_lease: 30 is not accepted"),
        ("keep_calls = \"29d\"", "", "gateway.keep_calls: \"29d\" is not accepted"),
        ("lost_hold = \"keep\"", "", "gateway.lost_hold: \"keep\" is not accepted; accepted: \"charge\", \"release\""),
        ("durability = true", "", "gateway.durability: true is not accepted; accepted: \"power\", \"process\""),
        ("missing_request_id = \"\"", "", "gateway.missing_request_id: \"\" is not accepted; accepted: \"generate\", \"reject\""),
        (
            "",
            "timeout = \"301s\"",
            "product[\"translate\"].timeout: \"301s\" is not accepted; accepted: a duration such as \"250ms\", \"30s\", \"15m\", \"24h\" or \"30d\", from \"1ms\" to \"300s\"",
        ),
        ("", "timeout = \"0s\"", "product[\"translate\"].timeout: \"0s\" is not accepted"),
        ("", "idle_timeout = \"never\"", "product[\"translate\"].idle_timeout: \"never\" is not accepted"),
        ("", "exhausted_status = 404", "product[\"translate\"].exhausted_status: 404 is not accepted; accepted: 402, 403, 429"),
        (
            "",
            "max_request_body = \"1 MB\"",
            "product[\"translate\"].max_request_body: \"1 MB\" is not accepted; accepted: a size",
        ),
        ("", "max_request_body = 0", "product[\"translate\"].max_request_body: 0 is not accepted"),
        ("", "max_request_body = 1.5", "product[\"translate\"].max_request_body: 1.5 is not accepted"),
        ("", "replay_limit = -1", "product[\"translate\"].replay_limit: -1 is not accepted"),
        ("", "drain = { bytes = -1 }", "product[\"translate\"].drain.bytes: -1 is not accepted"),
        ("", "drain = \"30s\"", "product[\"translate\"].drain: \"30s\" is not accepted; accepted: a table"),
        ("", "backend_headers = { host = \"a\" }", "product[\"translate\"].backend_headers.host: unknown key"),
        ("", "backend_headers = { X-Request-Id = \"a\" }", "product[\"translate\"].backend_headers.X-Request-Id: unknown key"),
        ("", "backend_headers = { \"a b\" = \"a\" }", "product[\"translate\"].backend_headers.\"a b\": unknown key"),
        ("", "backend_headers = { a = \"1\", A = \"2\" }", "product[\"translate\"].backend_headers.a: unknown key"),
        ("", "backend_headers = { a = 1 }", "product[\"translate\"].backend_headers.a: the value (not shown) is not accepted"),
        ("", "backend_headers = { a = \"x\\r\\ny: s3cret\" }", "product[\"translate\"].backend_headers.a: the value (not shown)"),
        ("", "backend_headers = \"s3cret\"", "product[\"translate\"].backend_headers: the value (not shown)"),
        ("", "meter = { charge_when = \"always\" }", "product[\"translate\"].meter.charge_when: \"always\" is not accepted"),
        ("", "meter = \"call\"", "product[\"translate\"].meter: \"call\" is not accepted"),
    ] {
        let line = refusal(&with(gateway, product));
        assert!(line.starts_with(expected), "{line}\n{expected}");
        assert!(line.contains("; accepted: "), "{line}");
    }
}

#[test]
fn headers_for_the_backend_fit_what_a_request_can_carry() {
    let headers = |bytes: usize| {
        let pairs: Vec<String> = (0..5).map(|n| format!("h{n} = \"{}\"", "v".repeat(bytes))).collect();
        with("", &format!("backend_headers = {{ {} }}", pairs.join(", ")))
    };
    assert_eq!(checked(&headers(6_500)).products[0].backend_headers.len(), 5);
    let line = refusal(&headers(6_600));
    assert_eq!(
        line,
        "product[\"translate\"].backend_headers: the value (not shown) is not accepted; accepted: headers of at most 32 KiB together"
    );
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    for (text, expected) in [
        (with("hold_leese = \"30s\"", ""), "gateway.hold_leese: unknown key; accepted: admin_token, read_token, "),
        (with("", "rout = \"/a\""), "product[\"translate\"].rout: unknown key; accepted: id, route, "),
        (with("", "meter = { unit = \"call\", items = [] }"), "product[\"translate\"].meter.items: unknown key"),
        (with("", "drain = { time = \"1s\", byte = 1 }"), "product[\"translate\"].drain.byte: unknown key"),
        (with("[gateways]", ""), "gateways: unknown key; accepted: gateway, webhook, repurchase, product"),
        (format!("\"a\\nb\" = 1\n{}", with("", "")), "\"a\\nb\": unknown key"),
        (
            with("", "").replace("secret = \"admin_token\"", "secrets = \"admin_token\""),
            "gateway.admin_token.secrets: unknown key",
        ),
        (
            with("", "").replace("kind = \"none\"", "kind = \"none\", header = \"a\""),
            "product[\"translate\"].caller.header: unknown key",
        ),
    ] {
        let line = refusal(&text);
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn what_this_version_does_not_build_is_refused_and_not_ignored() {
    let line = refusal(&with("[koogallery]", ""));
    assert!(line.starts_with("koogallery is not available in this version"), "{line}");
}

#[test]
fn a_required_key_is_missed_by_name() {
    let whole = with("", "");
    for (removed, expected) in [
        ("[gateway]\nadmin_token = { secret = \"admin_token\" }\n", "gateway.admin_token: missing"),
        ("admin_token = { secret = \"admin_token\" }\n", "gateway.admin_token: missing"),
        ("id = \"translate\"\n", "product[1].id: missing"),
        ("route = \"/translate\"\n", "product[\"translate\"].route: missing"),
        ("backend = \"http://127.0.0.1:9000/v1\"\n", "product[\"translate\"].backend: missing"),
        (OPEN, "product[\"translate\"].caller: missing"),
        ("kind = \"none\"", "product[\"translate\"].caller.kind: missing"),
    ] {
        assert!(whole.contains(removed), "{removed}");
        let line = refusal(&whole.replace(removed, ""));
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
    assert!(refusal(GATEWAY).starts_with("product: missing; accepted: [[product]]"));
    assert!(refusal(&format!("product = []\n{GATEWAY}")).starts_with("product: a list of 0 is not accepted"));
}

#[test]
fn two_products_cannot_share_a_route_or_an_id() {
    let other = "[[product]]\nid = \"other\"\nroute = \"/translate\"\nbackend = \"http://h\"\n";
    let line = refusal(&format!("{}{other}{OPEN}", with("", "")));
    assert!(line.starts_with("product[\"other\"].route: \"/translate\" is taken by product[\"translate\"]"), "{line}");
    let line = refusal(&format!("{}{}{OPEN}", with("", ""), other.replace("other", "translate").replace("/translate", "/b")));
    assert!(line.starts_with("product[2].id: \"translate\" is taken by product[1]"), "{line}");
}

#[test]
fn a_secret_without_a_usable_value_is_named_and_never_shown() {
    let admin = |value: &str| format!("[gateway]\nadmin_token = {value}\n{PRODUCT}{OPEN}");
    for (text, expected) in [
        (admin("{ secret = \"unknown\" }"), "gateway.admin_token: the secret \"unknown\" has no value"),
        (admin("{ secret = \"empty\" }"), "gateway.admin_token: the secret \"empty\" has no value"),
        (admin("{ secret = \"blank\" }"), "gateway.admin_token: the secret \"blank\" has no value"),
        (admin("{ secret = \"broken\" }"), "gateway.admin_token: the value of the secret \"broken\" is not accepted"),
        (admin("\"s3cret\""), "gateway.admin_token: the value (not shown) is not accepted; accepted: { secret = \"name\" }"),
        (admin("{ secret = \"My-s3cret!\" }"), "gateway.admin_token: the value (not shown) is not accepted"),
        (admin("{ secret = 1 }"), "gateway.admin_token: the value (not shown) is not accepted"),
        (admin("{}"), "gateway.admin_token: the value (not shown) is not accepted"),
        (
            with("", "backend_headers = { authorization = { secret = \"broken\" } }"),
            "product[\"translate\"].backend_headers.authorization: the value of the secret \"broken\"",
        ),
    ] {
        let line = refusal(&text);
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn a_read_token_without_a_value_or_like_the_admin_token_is_worth_a_warning() {
    let config = checked(&with("read_token = { secret = \"empty\" }", ""));
    assert!(config.gateway.read_token.is_none());
    assert!(config.warnings.iter().any(|warning| warning.starts_with("gateway.read_token: the secret \"empty\" has no value")));
    let config = checked(&with("read_token = { secret = \"admin_token\" }", ""));
    assert!(config.warnings.iter().any(|warning| warning.starts_with("gateway.read_token: it is the admin token")));
    let absent = check(&with("", ""), &|name| (name == "admin_token").then(|| "a".to_owned())).unwrap();
    assert!(absent.gateway.read_token.is_none());
}

#[test]
fn a_wrong_caller_is_refused() {
    let jwt = |inner: &str| format!("{GATEWAY}{PRODUCT}caller = {{ kind = \"agents-jwt\", {inner} }}\n");
    let key = "{ access_key = \"ak\", secret_key = { secret = \"agents_sk\" } }";
    for (text, expected) in [
        (with("", "").replace("kind = \"none\"", "kind = \"open\""), "caller.kind: \"open\" is not accepted"),
        (with("", "").replace("{ kind = \"none\" }", "\"s3cret\""), "caller: the value (not shown) is not accepted"),
        (with("", "").replace("kind = \"none\"", "kind = \"shared-secret\""), "caller.secret: missing"),
        (jwt("header = \"authorization\""), "caller.keys: missing"),
        (jwt("keys = []"), "caller.keys: a list of 0 is not accepted"),
        (jwt("keys = [{ access_key = \"ak\" }]"), "caller.keys[1].secret_key: missing"),
        (jwt(&format!("keys = [{key}, {key}]")), "caller.keys[2].access_key: \"ak\" is taken by an earlier key"),
        (jwt(&format!("keys = [{}]", key.replace("\"ak\"", "\"\""))), "caller.keys[1].access_key: \"\" is not accepted"),
        (
            jwt(&format!("keys = [{}]", key.replace("agents_sk", "empty"))),
            "caller.keys[1].secret_key: the secret \"empty\" has no value",
        ),
        (jwt(&format!("header = \"host\", keys = [{key}]")), "caller.header: \"host\" is not accepted"),
        (jwt(&format!("header = \"a:b\", keys = [{key}]")), "caller.header: \"a:b\" is not accepted"),
    ] {
        let (line, expected) = (refusal(&text), format!("product[\"translate\"].{expected}"));
        assert!(line.starts_with(&expected), "{line}\n{expected}");
    }
}

#[test]
fn a_wrong_address_is_refused_without_its_password() {
    let routed = |route: &str| with("", "").replace("\"/translate\"", &format!("{route:?}"));
    let backed = |backend: &str| with("", "").replace("\"http://127.0.0.1:9000/v1\"", &format!("{backend:?}"));
    for (text, expected) in [
        (routed("translate"), "route: \"translate\" is not accepted; accepted: a path"),
        (routed("/a/../b"), "route: \"/a/../b\" is not accepted"),
        (routed("/_tollgate/v1"), "route: \"/_tollgate/v1\" is not accepted"),
        (backed("ftp://h"), "backend: \"ftp://h\" is not accepted; accepted: a URL"),
        (backed("http://u:s3cret@h"), "backend: the value (not shown) is not accepted"),
        (backed("http://h/a?key=s3cret"), "backend: the value (not shown) is not accepted"),
    ] {
        let (line, expected) = (refusal(&text), format!("product[\"translate\"].{expected}"));
        assert!(line.starts_with(&expected), "{line}\n{expected}");
    }
    let line = refusal(&with("", "").replace("id = \"translate\"", "id = \"two words\""));
    assert!(line.starts_with("product[1].id: \"two words\" is not accepted"), "{line}");
}

#[test]
fn a_text_that_is_not_toml_or_too_long_is_refused_without_its_content() {
    for text in ["[gateway\n", "[gateway]\nadmin_token = s3cret\n", "a = 1\na = \"s3cret\"\n", "a = \"s3cret\n", "\u{0}"] {
        let line = refusal(text);
        assert!(line.starts_with("line ") && line.contains(": not TOML: "), "{line}");
    }
    assert!(refusal("a = 1\n[gateway]\nadmin_token = s3cret\n").starts_with("line 3: "));
    assert_eq!(refusal(&"#".repeat((1 << 20) + 1)), "the configuration is longer than 1048576 bytes");
    assert!(refusal(&with("", &format!("timeout = \"{}\"", "x".repeat(500)))).len() < 400);
}

#[test]
fn the_configuration_that_is_shipped_and_its_defaults_written_out_are_accepted() {
    let shipped = include_str!("../../tollgate.toml");
    let config = checked(shipped);
    assert_eq!(config.products[0].route.as_str(), "/translate");
    let is_key = |line: &&str| {
        line.strip_prefix("# ").is_some_and(|line| line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '='])))
    };
    let defaults: Vec<_> = shipped.lines().filter(is_key).collect();
    assert_eq!(defaults.len(), 15, "{defaults:?}");
    let written_out: String =
        shipped.lines().map(|line| if is_key(&line) { &line[2..] } else { line }).collect::<Vec<_>>().join("\n");
    let (implied, explicit) = (config, checked(&written_out));
    // The two commented keys that are examples and no defaults.
    assert_eq!((explicit.products[0].backend_headers.len(), explicit.products[0].alerts.len()), (1, 2));
    let mut products = explicit.products;
    products[0].backend_headers.clear();
    products[0].alerts.clear();
    assert_eq!(format!("{:?}{:?}", implied.gateway, implied.products), format!("{:?}{products:?}", explicit.gateway));
}

#[test]
fn a_product_metered_by_usage_takes_bodies_that_fit_an_instance() {
    let metered = "meter = { unit = \"token\" }";
    let product = &checked(&with("", metered)).products[0];
    assert_eq!((product.replay_limit, product.meter.unit()), (0, "token"));
    assert_eq!(
        checked(&with("", &format!("{metered}\nmax_request_body = \"64 MiB\""))).products[0].max_request_body_bytes,
        64 << 20
    );
    let line = refusal(&with("", &format!("{metered}\nmax_request_body = \"65 MiB\"")));
    assert!(line.starts_with("product[\"translate\"].max_request_body: \"65 MiB\" is not accepted"), "{line}");
}
