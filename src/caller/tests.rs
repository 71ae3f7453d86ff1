//! Which credentials are let through, with tokens made here.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{AgentsKey, CREDENTIAL_LENGTH_MAX, CallerPolicy, Unauthenticated, authenticate};
use crate::problem::Problem;
use crate::secret::Secret;

const NOW_MS: i64 = 1_700_000_000_000;
const NOW_S: i64 = NOW_MS / 1000;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT","sign_type":"SIGN"}"#;

fn signature(secret_key: &str, signed: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn token_of(secret_key: &str, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(signature(secret_key, &signed));
    format!("{signed}.{signature}")
}

fn good_payload() -> String {
    format!(r#"{{"api_key":"ak-2","timestamp":{NOW_MS},"exp":{}}}"#, NOW_S + 300)
}

fn policy() -> CallerPolicy {
    let key = |access_key: &str, secret_key: &str| AgentsKey::new(access_key, &Secret::new(secret_key));
    CallerPolicy::AgentsJwt { header: "authorization".to_owned(), keys: vec![key("ak-1", "sk-1"), key("ak-2", "sk-2")] }
}

fn check(token: &str) -> Result<(), Unauthenticated> {
    authenticate(&policy(), &[token], NOW_MS)
}

fn check_header(header: &str) -> Result<(), Unauthenticated> {
    check(&token_of("sk-2", header, &good_payload()))
}

fn check_payload(members: &str) -> Result<(), Unauthenticated> {
    check(&token_of("sk-2", HEADER, &format!(r#"{{"api_key":"ak-2"{members}}}"#)))
}

#[test]
fn a_token_is_accepted_with_and_without_bearer() {
    let token = token_of("sk-2", HEADER, &good_payload());
    for value in
        [token.clone(), format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER   {token}"), format!(" {token}\t")]
    {
        assert_eq!(check(&value), Ok(()), "{value}");
    }
    for value in [
        format!("Bearer{token}"),
        format!("Basic {token}"),
        format!("Bearer Bearer {token}"),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
    ] {
        assert_eq!(check(&value), Err(Unauthenticated::TokenMalformed), "{value}");
    }
}

#[test]
fn a_widely_published_token_has_the_signature_that_its_key_makes() {
    let signed =
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ";
    let signature = URL_SAFE_NO_PAD.decode("SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c").unwrap();
    assert!(AgentsKey::new("ak", &Secret::new("your-256-bit-secret")).verifies(signed.as_bytes(), &signature));
    assert!(!AgentsKey::new("ak", &Secret::new("another-secret")).verifies(signed.as_bytes(), &signature));
}

#[test]
fn only_hs256_is_accepted_whatever_the_header_says() {
    for alg in [r#""none""#, r#""None""#, r#""hs256""#, r#""HS384""#, r#""HS512""#, r#""RS256""#, r#""""#, r#""HS256 ""#] {
        assert_eq!(
            check_header(&format!(r#"{{"alg":{alg},"sign_type":"SIGN"}}"#)),
            Err(Unauthenticated::AlgorithmRefused),
            "{alg}"
        );
    }
    assert_eq!(check_header(r#"{"sign_type":"SIGN"}"#), Err(Unauthenticated::AlgorithmRefused));
    for alg in [r#"["HS256"]"#, "null", "256", "true", "{}"] {
        assert_eq!(check_header(&format!(r#"{{"alg":{alg}}}"#)), Err(Unauthenticated::TokenMalformed), "{alg}");
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let unsigned = |header: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(good_payload()));
    assert_eq!(check(&unsigned(r#"{"alg":"none"}"#)), Err(Unauthenticated::AlgorithmRefused));
    assert_eq!(check(&unsigned(HEADER)), Err(Unauthenticated::TokenMalformed));
}

#[test]
fn sign_type_is_sign_where_it_is_given() {
    assert_eq!(check_header(r#"{"alg":"HS256"}"#), Ok(()));
    for other in ["sign", "", "ENCRYPT"] {
        assert_eq!(
            check_header(&format!(r#"{{"alg":"HS256","sign_type":"{other}"}}"#)),
            Err(Unauthenticated::SignTypeRefused),
            "{other}"
        );
    }
    assert_eq!(check_header(r#"{"alg":"HS256","sign_type":null}"#), Err(Unauthenticated::TokenMalformed));
}

#[test]
fn a_critical_extension_is_refused() {
    assert_eq!(check_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), Err(Unauthenticated::ExtensionCritical));
}

#[test]
fn a_header_or_payload_that_is_no_plain_object_is_refused() {
    for header in [
        r#"["HS256","SIGN",null]"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256"} {}"#,
        "",
        "HS256",
    ] {
        assert_eq!(check_header(header), Err(Unauthenticated::TokenMalformed), "{header}");
    }
    let second_key = format!(r#","api_key":"ak-1","timestamp":{NOW_MS}"#);
    assert_eq!(check_payload(&second_key), Err(Unauthenticated::TokenMalformed));
    let second_exp = format!(r#","exp":1,"exp":{}"#, NOW_S + 300);
    assert_eq!(check_payload(&second_exp), Err(Unauthenticated::TokenMalformed));
    let array = format!(r#"["ak-2",{NOW_MS},null,null,null]"#);
    assert_eq!(check(&token_of("sk-2", HEADER, &array)), Err(Unauthenticated::TokenMalformed));
}

#[test]
fn a_key_is_found_by_its_api_key_and_signs_for_itself_only() {
    let payload = |api_key: &str| format!(r#"{{"api_key":"{api_key}","timestamp":{NOW_MS}}}"#);
    assert_eq!(check(&token_of("sk-1", HEADER, &payload("ak-1"))), Ok(()));
    assert_eq!(check(&token_of("sk-2", HEADER, &payload("ak-2"))), Ok(()));
    assert_eq!(check(&token_of("sk-1", HEADER, &payload("ak-2"))), Err(Unauthenticated::SignatureWrong));
    assert_eq!(check(&token_of("sk-3", HEADER, &payload("ak-3"))), Err(Unauthenticated::KeyUnknown));
    assert_eq!(check(&token_of("", HEADER, &payload(""))), Err(Unauthenticated::KeyUnknown));
    assert_eq!(check(&token_of("sk-1", HEADER, &format!(r#"{{"timestamp":{NOW_MS}}}"#))), Err(Unauthenticated::KeyUnknown));
    assert_eq!(check(&token_of("sk-1", HEADER, &payload("\\u0061k-1"))), Ok(()), "an escaped name is the same name");
}

#[test]
fn changing_any_character_of_a_token_makes_it_wrong() {
    let token = token_of("sk-2", HEADER, &good_payload());
    for (index, old) in token.char_indices() {
        let new = if old == 'A' { 'B' } else { 'A' };
        let changed = format!("{}{new}{}", &token[..index], &token[index + 1..]);
        assert!(check(&changed).is_err(), "{index}: {changed}");
    }
}

#[test]
fn base64url_is_read_strictly() {
    let token = token_of("sk-2", HEADER, &good_payload());
    let (signed, signature_text) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let bytes = signature("sk-2", signed);
    for changed in [
        format!("{signed}.{}", URL_SAFE.encode(&bytes)),
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes[..31])),
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode([&bytes[..], b"x"].concat())),
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode([&bytes[..], &bytes[..]].concat())),
        format!("{signed}.{signature_text}."),
        format!("{header}.{payload}"),
        format!("{header} .{payload}.{signature_text}"),
        format!(".{payload}.{signature_text}"),
        "..".to_owned(),
        ".".to_owned(),
        "\u{e9}".to_owned(),
    ] {
        assert_eq!(check(&changed), Err(Unauthenticated::TokenMalformed), "{changed}");
    }
    let padded = format!("{}.{}", STANDARD.encode(r#"{"alg":"HS256"}  "#), URL_SAFE_NO_PAD.encode(good_payload()));
    assert!(padded.contains('='));
    let signed_as_padded = format!("{padded}.{}", URL_SAFE_NO_PAD.encode(signature("sk-2", &padded)));
    assert_eq!(check(&signed_as_padded), Err(Unauthenticated::TokenMalformed));
}

#[test]
fn exp_ends_a_token_in_seconds_and_in_milliseconds_with_60_s_of_skew() {
    for exp in [NOW_S + 300, NOW_S, NOW_S - 59, NOW_MS + 300_000, NOW_MS, NOW_MS - 59_999] {
        assert_eq!(check_payload(&format!(r#","exp":{exp}"#)), Ok(()), "{exp}");
    }
    for exp in [NOW_S - 60, NOW_S - 3600, 0, -1, i64::MIN, NOW_MS - 60_000] {
        assert_eq!(check_payload(&format!(r#","exp":{exp}"#)), Err(Unauthenticated::Expired), "{exp}");
    }
    assert_eq!(check_payload(&format!(r#","exp":{}.5"#, NOW_S + 300)), Ok(()));
    assert_eq!(check_payload(r#","exp":18446744073709551615"#), Ok(()));
    assert_eq!(check_payload(r#","exp":1e300"#), Ok(()));
    for exp in [format!("\"{}\"", NOW_S + 300), "true".to_owned(), "[]".to_owned(), "1e999".to_owned()] {
        assert_eq!(check_payload(&format!(r#","exp":{exp}"#)), Err(Unauthenticated::TokenMalformed), "{exp}");
    }
}

#[test]
fn a_token_without_exp_is_good_for_5_minutes_from_its_timestamp() {
    for timestamp in [NOW_MS, NOW_MS - 300_000, NOW_MS - 359_999, NOW_MS + 60_000] {
        assert_eq!(check_payload(&format!(r#","timestamp":{timestamp}"#)), Ok(()), "{timestamp}");
    }
    assert_eq!(check_payload(&format!(r#","timestamp":{}"#, NOW_MS - 360_000)), Err(Unauthenticated::Expired));
    assert_eq!(check_payload(&format!(r#","timestamp":{NOW_S}"#)), Err(Unauthenticated::Expired), "timestamps are milliseconds");
    assert_eq!(check_payload(""), Err(Unauthenticated::TimeMissing));
    assert_eq!(check_payload(&format!(r#","iat":{NOW_S}"#)), Err(Unauthenticated::TimeMissing));
    let exp_decides = format!(r#","timestamp":{},"exp":{}"#, NOW_MS - 3_600_000, NOW_S + 1);
    assert_eq!(check_payload(&exp_decides), Ok(()));
}

#[test]
fn a_token_from_the_future_is_refused() {
    let exp = NOW_S + 7200;
    for (member, at_most, beyond) in [
        ("timestamp", NOW_MS + 60_000, NOW_MS + 60_001),
        ("iat", NOW_S + 60, NOW_S + 61),
        ("nbf", NOW_S + 60, NOW_S + 61),
        ("iat", NOW_MS + 60_000, NOW_MS + 60_001),
        ("nbf", NOW_MS + 60_000, i64::MAX),
    ] {
        assert_eq!(check_payload(&format!(r#","exp":{exp},"{member}":{at_most}"#)), Ok(()), "{member}");
        assert_eq!(check_payload(&format!(r#","exp":{exp},"{member}":{beyond}"#)), Err(Unauthenticated::NotYetValid), "{member}");
    }
    assert_eq!(check_payload(&format!(r#","timestamp":{}"#, i64::MAX)), Err(Unauthenticated::NotYetValid));
}

#[test]
fn there_is_exactly_one_credential_of_bounded_length() {
    let token = token_of("sk-2", HEADER, &good_payload());
    let shared = CallerPolicy::SharedSecret { header: "x-gateway-secret".to_owned(), secret: Secret::new("open sesame") };
    for (policy, good) in [(policy(), token.as_str()), (shared, "open sesame")] {
        assert_eq!(authenticate(&policy, &[good], NOW_MS), Ok(()));
        assert_eq!(authenticate::<&str>(&policy, &[], NOW_MS), Err(Unauthenticated::Absent));
        assert_eq!(authenticate(&policy, &[""], NOW_MS), Err(Unauthenticated::Absent));
        assert_eq!(authenticate(&policy, &["  "], NOW_MS), Err(Unauthenticated::Absent));
        assert_eq!(authenticate(&policy, &[good, good], NOW_MS), Err(Unauthenticated::Repeated));
        let long = "a".repeat(CREDENTIAL_LENGTH_MAX + 1);
        assert_eq!(authenticate(&policy, &[long], NOW_MS), Err(Unauthenticated::TooLong));
    }
}

#[test]
fn a_shared_secret_is_the_whole_text_or_nothing() {
    let policy = CallerPolicy::SharedSecret { header: "x-gateway-secret".to_owned(), secret: Secret::new("open sesame") };
    for wrong in ["open sesam", "open sesame!", "Open sesame", "Bearer open sesame", "open  sesame"] {
        assert_eq!(authenticate(&policy, &[wrong], NOW_MS), Err(Unauthenticated::SecretWrong), "{wrong}");
    }
    assert_eq!(authenticate(&policy, &[[0xff_u8, 0xfe]], NOW_MS), Err(Unauthenticated::SecretWrong));
}

#[test]
fn without_a_policy_everyone_may_call() {
    assert_eq!(authenticate::<&str>(&CallerPolicy::None, &[], NOW_MS), Ok(()));
    assert_eq!(authenticate(&CallerPolicy::None, &["a", "b"], NOW_MS), Ok(()));
    assert_eq!(CallerPolicy::None.header(), None);
}

#[test]
fn every_refusal_reads_the_same_outside() {
    let absent: Problem = Unauthenticated::Absent.into();
    assert_eq!((absent.status, absent.code.as_str()), (401, "caller_unauthenticated"));
    for reason in
        [Unauthenticated::SignatureWrong, Unauthenticated::KeyUnknown, Unauthenticated::Expired, Unauthenticated::SecretWrong]
    {
        assert_eq!(Problem::from(reason), absent, "{reason}");
    }
}

#[test]
fn a_policy_prints_no_secret() {
    assert!(!format!("{:?}", policy()).contains("sk-2"));
}
