//! Tokens as the marketplace's Agents gateway signs them, and tokens it would never sign.

use super::gateway::AGENTS_SK;
use super::unix_seconds;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// A token whose parts a case may change before it is signed.
pub(crate) struct Token {
    header: Value,
    payload: Value,
    secret_key: String,
}

impl Token {
    /// A good one.
    pub(crate) fn new() -> Self {
        let (now, end) = (unix_seconds(0), unix_seconds(300));
        Self {
            header: json!({ "alg": "HS256", "typ": "JWT", "sign_type": "SIGN" }),
            payload: json!({ "api_key": "contract-ak", "timestamp": now * 1000, "exp": end }),
            secret_key: AGENTS_SK.to_owned(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: Value) -> Self {
        self.payload[name] = value;
        self
    }

    pub(crate) fn without_claim(mut self, name: &str) -> Self {
        self.payload.as_object_mut().unwrap().remove(name);
        self
    }

    pub(crate) fn key(mut self, secret_key: &str) -> Self {
        self.secret_key = secret_key.to_owned();
        self
    }

    /// `header.payload`, what a signature is made of.
    pub(crate) fn unsigned(&self) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}", encode(&self.header), encode(&self.payload))
    }

    /// The whole token, signed with HMAC-SHA256 whatever its header claims.
    pub(crate) fn sign(&self) -> String {
        let signed = self.unsigned();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret_key.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}
