//! Webhooks, the order hook, and the alerts of products.

use super::{GATEWAY, OPEN, PRODUCT, checked, refusal, with};
use crate::config::{Config, SigningSecret};
use crate::ids::ProductId;
use crate::ledger::Threshold;
use crate::quantity::Quantity;

const SECRETS: &str = "secrets = [{ secret = \"webhook_secret\" }]\n";

/// The smallest configuration with a webhook whose table has these lines beside its secrets.
fn webhook(lines: &str) -> String {
    format!("{GATEWAY}[[webhook]]\n{SECRETS}{lines}\n{PRODUCT}{OPEN}")
}

fn with_secret(name: &str) -> String {
    webhook("url = \"http://h\"").replace("webhook_secret", name)
}

fn is_told(config: &Config, event_type: &str) -> bool {
    config.webhooks[0].events.matches(event_type)
}

#[test]
fn a_webhook_has_a_url_secrets_and_all_events_unless_it_names_some() {
    let config = checked(&format!(
        "{GATEWAY}[[webhook]]\nurl = \"https://Hooks.example.com:8443/a?b=c\"\n\
         secrets = [{{ secret = \"webhook_secret\" }}, {{ secret = \"other_secret\" }}]\n\
         [[webhook]]\nurl = \"http://h\"\n{SECRETS}events = [\"package.*\", \"call.lost\"]\n{PRODUCT}{OPEN}"
    ));
    let [all, some] = &config.webhooks[..] else { panic!("{:?}", config.webhooks) };
    assert_eq!(all.url.as_str(), "https://hooks.example.com:8443/a?b=c");
    assert_eq!((all.url.is_https(), all.url.authority(), all.url.target()), (true, "hooks.example.com:8443", "/a?b=c"));
    assert_eq!((some.url.is_https(), some.url.authority(), some.url.target()), (false, "h", "/"));
    assert_eq!(all.secrets.iter().map(|secret| secret.key().len()).collect::<Vec<_>>(), [24, 64]);
    assert_eq!(all.secrets[0].key(), b"ABCABCABCABCABCABCABCABC", "without the line ending of its file");
    assert!(all.events.matches("package.granted") && all.events.matches("repurchase.suspended"));
    for (event_type, is_told) in [
        ("package.granted", true),
        ("package.expired", true),
        ("call.lost", true),
        ("call.overrun", false),
        ("balance.low", false),
    ] {
        assert_eq!(some.events.matches(event_type), is_told, "{event_type}");
    }
    assert!(!format!("{config:?}").contains("ABC"), "{config:?}");
    assert!(checked(&with("", "")).webhooks.is_empty());
}

#[test]
fn every_type_of_event_can_be_named() {
    for event_type in [
        "package.granted",
        "package.exhausted",
        "package.expired",
        "package.frozen",
        "package.unfrozen",
        "package.released",
        "balance.low",
        "balance.exhausted",
        "repurchase.requested",
        "repurchase.succeeded",
        "repurchase.failed",
        "repurchase.suspended",
        "call.overrun",
        "call.lost",
    ] {
        let config = checked(&webhook(&format!("url = \"http://h\"\nevents = [\"{event_type}\"]")));
        assert!(is_told(&config, event_type), "{event_type}");
        assert!(!is_told(&config, "package.grante"), "{event_type}");
    }
}

#[test]
fn a_wrong_webhook_is_refused_by_its_place() {
    let url = "url = \"http://h\"\n";
    for (text, expected) in [
        (webhook(""), "webhook[1].url: missing"),
        (webhook("url = \"http://u:s3cret@h\""), "webhook[1].url: the value (not shown) is not accepted; accepted: a URL"),
        (webhook("url = \"ftp://h\""), "webhook[1].url: the value (not shown) is not accepted"),
        (webhook(&format!("{url}event = [\"*\"]")), "webhook[1].event: unknown key; accepted: url, secrets, events"),
        (webhook(&format!("{url}events = \"*\"")), "webhook[1].events: \"*\" is not accepted; accepted: a list"),
        (webhook(&format!("{url}events = []")), "webhook[1].events: a list of 0 is not accepted"),
        (webhook(&format!("{url}events = [\"*\", \"balance.lo\"]")), "webhook[1].events[2]: \"balance.lo\" is not accepted"),
        (webhook(&format!("{url}events = [\"pack*\"]")), "webhook[1].events[1]: \"pack*\" is not accepted"),
        (webhook(&format!("{url}events = [\"order.*\"]")), "webhook[1].events[1]: \"order.*\" is not accepted"),
        (webhook(&format!("{url}events = [\"*.low\"]")), "webhook[1].events[1]: \"*.low\" is not accepted"),
        (webhook(&format!("{url}events = [1]")), "webhook[1].events[1]: 1 is not accepted"),
        (webhook(&format!("{url}[[webhook]]\nurl = \"HTTP://H/\"\n{SECRETS}")), "webhook[2].url: the URL is taken by webhook[1]"),
        (webhook(url).replace(SECRETS, ""), "webhook[1].secrets: missing"),
        (webhook(url).replace("[{ secret = \"webhook_secret\" }]", "[]"), "webhook[1].secrets: a list of 0 is not accepted"),
        (
            webhook(url).replace("{ secret = \"webhook_secret\" }", &["{ secret = \"webhook_secret\" }"; 5].join(", ")),
            "webhook[1].secrets: a list of 5 is not accepted",
        ),
        (
            webhook(url).replace("{ secret = \"webhook_secret\" }", "\"whsec_s3cret\""),
            "webhook[1].secrets[1]: the value (not shown) is not accepted; accepted: { secret = \"name\" }",
        ),
        (with_secret("unknown"), "webhook[1].secrets[1]: the secret \"unknown\" has no value"),
        (with_secret("empty"), "webhook[1].secrets[1]: the secret \"empty\" has no value"),
        (with_secret("short_secret"), "webhook[1].secrets[1]: the value of the secret \"short_secret\" is not accepted"),
        (with_secret("long_secret"), "webhook[1].secrets[1]: the value of the secret \"long_secret\" is not accepted"),
        (with_secret("bare_secret"), "webhook[1].secrets[1]: the value of the secret \"bare_secret\" is not accepted"),
        (with("", "").replace(PRODUCT, &format!("[webhook]\nurl = \"http://h\"\n{PRODUCT}")), "webhook: a table is not accepted"),
    ] {
        let line = refusal(&text);
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
    let many: String = (1..=17).map(|port| format!("[[webhook]]\nurl = \"http://h:{port}\"\n{SECRETS}")).collect();
    assert!(refusal(&format!("{GATEWAY}{many}{PRODUCT}{OPEN}")).starts_with("webhook: a list of 17 is not accepted"));
}

#[test]
fn a_signing_secret_is_its_prefix_and_strict_base64() {
    let key = "QUJD".repeat(8);
    assert!(SigningSecret::read(&format!("whsec_{key}")).is_some());
    for text in [
        key.clone(),
        format!("whsec{key}"),
        format!("whsec_{key}="),
        format!("whsec_{key} "),
        format!("whsec_{}", key.replacen("QU", "_-", 1)),
        "whsec_".to_owned(),
    ] {
        assert_eq!(SigningSecret::read(&text), None, "{text}");
    }
    assert_eq!(format!("{:?}", SigningSecret::read(&format!("whsec_{key}"))), "Some(SigningSecret(..))");
}

#[test]
fn a_hook_prints_nothing_that_lets_others_post_there() {
    let url = crate::config::address::hook("https://h.example:8443/path?token=hunter2").unwrap();
    assert_eq!(format!("{url:?}"), "HookUrl(https://h.example:8443..)");
}

#[test]
fn the_order_hook_has_a_time_after_which_an_order_has_failed() {
    let hook = |lines: &str| with("", "").replace(PRODUCT, &format!("[repurchase]\n{SECRETS}{lines}\n{PRODUCT}"));
    assert!(checked(&with("", "")).repurchase.is_none());
    let config = checked(&hook("url = \"http://127.0.0.1:9900/orders\""));
    let repurchase = config.repurchase.as_ref().unwrap();
    assert_eq!((repurchase.url.as_str(), repurchase.timeout_ms), ("http://127.0.0.1:9900/orders", 900_000));
    assert_eq!(repurchase.secrets.len(), 1);
    for (lines, expected) in [
        ("", "repurchase.url: missing"),
        ("url = \"h\"", "repurchase.url: the value (not shown) is not accepted"),
        ("url = \"http://h\"\ntimeout = \"999ms\"", "repurchase.timeout: \"999ms\" is not accepted"),
        ("url = \"http://h\"\ntimeout = \"8d\"", "repurchase.timeout: \"8d\" is not accepted"),
        ("url = \"http://h\"\nevents = [\"*\"]", "repurchase.events: unknown key; accepted: url, secrets, timeout"),
    ] {
        let line = refusal(&hook(lines));
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn alerts_are_shares_or_amounts() {
    let config = checked(&with("", "alerts = [{ percent = \"20\" }, { remaining = \"0.5\" }, { percent = \"100\" }]"));
    let quantity = |text: &str| text.parse::<Quantity>().unwrap();
    let expected =
        [Threshold::Percent(quantity("20")), Threshold::Remaining(quantity("0.5")), Threshold::Percent(quantity("100"))];
    assert_eq!(config.products[0].alerts, expected);
    for (alerts, expected) in [
        ("20", "alerts: 20 is not accepted"),
        ("[20]", "alerts[1]: 20 is not accepted; accepted: a table"),
        ("[{ percent = \"0\" }]", "alerts[1].percent: \"0\" is not accepted"),
        ("[{ percent = \"100.0001\" }]", "alerts[1].percent: \"100.0001\" is not accepted"),
        ("[{ percent = 20 }]", "alerts[1].percent: 20 is not accepted; accepted: a decimal text"),
        ("[{ remaining = \"1\" }, { remaining = \"-1\" }]", "alerts[2].remaining: \"-1\" is not accepted"),
        ("[{ remaining = \"1\", percent = \"1\" }]", "alerts[1].percent: \"1\" is not accepted"),
        ("[{}]", "alerts[1].percent: missing"),
        ("[{ percentage = \"1\" }]", "alerts[1].percentage: unknown key; accepted: percent, remaining"),
    ] {
        let line = refusal(&with("", &format!("alerts = {alerts}")));
        assert!(line.starts_with(&format!("product[\"translate\"].{expected}")), "{line}\n{expected}");
    }
    let many = ["{ percent = \"1\" }"; 21].join(", ");
    assert!(refusal(&with("", &format!("alerts = [{many}]"))).contains("alerts: a list of 21 is not accepted"));
}

#[test]
fn the_terms_of_a_product_are_what_the_ledger_is_to_know() {
    let text = with("", "alerts = [{ percent = \"20\" }]");
    let id = ProductId::new("translate").unwrap();
    let without_hook = checked(&text).terms();
    assert_eq!((without_hook[&id].unit.as_str(), without_hook[&id].repurchase_timeout_ms), ("call", None));
    assert_eq!(without_hook[&id].alerts.len(), 1);
    let hook = format!("[repurchase]\nurl = \"http://h\"\ntimeout = \"1m\"\n{SECRETS}{PRODUCT}");
    assert_eq!(checked(&text.replace(PRODUCT, &hook)).terms()[&id].repurchase_timeout_ms, Some(60_000));
}

#[test]
fn the_examples_in_the_shipped_configuration_are_accepted_and_show_the_defaults() {
    let shipped = include_str!("../../../tollgate.toml");
    let uncommented = shipped.lines().map(|line| line.strip_prefix("#     ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
    // What is indented and is no TOML explains how to write `caller`, or goes on about a key.
    let is_prose = |line: &&str| !line.starts_with(['[', ']', '#']) && !line.contains(" = ");
    let text: String = uncommented.lines().filter(|line| !is_prose(line)).map(|line| format!("{line}\n")).collect();
    let config = checked(&text);
    assert_eq!(config.webhooks.len(), 1);
    assert_eq!(config.webhooks[0].events.patterns(), ["*"]);
    assert_eq!(config.repurchase.unwrap().timeout_ms, 900_000);
    let implied = checked(
        "[gateway]\nadmin_token = { secret = \"admin_token\" }\n[[product]]\nid = \"a\"\nroute = \"/a\"\nbackend = \"http://a\"\ncaller = { kind = \"none\" }\nmeter = { unit = \"token\" }",
    );
    assert_eq!(config.products[0].meter, implied.products[0].meter);
}
