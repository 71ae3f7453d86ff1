//! Signatures of Standard Webhooks 1.0.0: the headers that a receiver verifies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::config::SigningSecret;
use crate::ids::EventId;

/// The headers of a message. Each secret gives a signature, so that a receiver may know any of them while one is being replaced. The time is that of
/// sending: receivers refuse what is too old, and a retry is new.
pub(super) fn headers(id: &EventId, now_ms: i64, body: &str, secrets: &[SigningSecret]) -> Vec<(&'static str, String)> {
    let timestamp = now_ms.div_euclid(1000).to_string();
    let signatures: Vec<String> = secrets.iter().map(|secret| signature(id, &timestamp, body, secret)).collect();
    vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_string()),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signatures.join(" ")),
    ]
}

fn signature(id: &EventId, timestamp: &str, body: &str, secret: &SigningSecret) -> String {
    // HMAC takes keys of every length: without one there is nothing to sign with, which cannot be.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.key()) else { return String::new() };
    for part in [id.as_str(), ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use standardwebhooks::Webhook;

    use super::headers;
    use crate::config::SigningSecret;
    use crate::ids::EventId;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD";
    const OTHER: &str = "whsec_QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJE";
    const BODY: &str = r#"{"test": 2432232314}"#;

    fn signed(now_ms: i64, secrets: &[&str]) -> Vec<(&'static str, String)> {
        let secrets: Vec<_> = secrets.iter().map(|secret| SigningSecret::read(secret).unwrap()).collect();
        headers(&EventId::new("msg_p5jXN8AQM9LWM0D4loKWxJek").unwrap(), now_ms, BODY, &secrets)
    }

    fn verifies(secret: &str, headers: &[(&'static str, String)], body: &str) -> bool {
        let map = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        Webhook::new(secret).unwrap().verify(body.as_bytes(), &map).is_ok()
    }

    #[test]
    fn a_signature_is_that_of_the_specification() {
        let headers = signed(1_614_265_330_999, &[OLD]);
        assert_eq!(headers[2], ("webhook-timestamp", "1614265330".to_owned()));
        assert_eq!(headers[3], ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned()));
    }

    #[test]
    fn the_official_library_accepts_a_message_by_any_of_its_secrets_and_by_no_other() {
        let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let headers = signed(now_ms, &[NEW, OLD]);
        assert!(verifies(NEW, &headers, BODY) && verifies(OLD, &headers, BODY));
        assert!(!verifies(OTHER, &headers, BODY));
        assert!(!verifies(NEW, &headers, &BODY.replace('4', "5")));
        assert!(!verifies(NEW, &signed(now_ms - 600_000, &[NEW]), BODY), "one that is as old as this is a replay");
    }
}
