//! The log: one line a problem. And what a JavaScript exception says.

use wasm_bindgen::{JsCast, JsValue};

/// Writes a line to the log.
pub(crate) fn line(text: &str) {
    worker::console_error!("{text}");
}

/// An exception in words.
pub(crate) fn describe(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => error.as_string().unwrap_or_else(|| "an unknown exception".to_owned()),
    }
}
