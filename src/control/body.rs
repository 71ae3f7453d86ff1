//! Request bodies: one JSON object, every member known, each at most once.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::failure::Failure;
use crate::ids::is_written_text;
pub(super) use crate::object::Object;

/// The most characters of a reader's message that are shown: it may quote the input.
const MESSAGE_LENGTH_MAX: usize = 160;

/// Reads a body.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // Structs could also be read from arrays, which nobody means.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Failure::invalid("The body: expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = error.to_string();
        let shown: String = message.chars().take(MESSAGE_LENGTH_MAX).collect();
        let cut = if shown.len() < message.len() { "..." } else { "" };
        Failure::invalid(format!("The body: {shown}{cut}"))
    })
}

/// Checks that a body says nothing: it is empty, or an empty object.
pub(super) fn read_nothing(body: &[u8]) -> Result<(), Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    read::<Nothing>(body).map(|Nothing {}| ())
}

/// For members that may be absent but not null.
pub(super) fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A text that people wrote, of 1 to `length_max` characters. Of control characters it may have line ends and tabs.
pub(super) fn check_text(name: &str, text: &str, length_max: usize) -> Result<(), Failure> {
    if is_written_text(text, length_max) {
        return Ok(());
    }
    Err(Failure::invalid(format!("{name}: expected 1 to {length_max} characters, without control characters")))
}
