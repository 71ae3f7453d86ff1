//! Between the runtime's requests and responses and the rooms' own.

use tollgate::gateway::{Head, Headers};
use tollgate::problem::{Code, Problem};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ReadableStream, Request, Response, ResponseInit};

use crate::log;
use crate::message::ControlAnswer;

/// A request's head. The URL is as it was sent: the runtime does not normalise it.
pub(crate) fn read_head(request: &Request) -> Head {
    let url = request.url();
    let after_scheme = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let target = after_scheme.find(['/', '?']).and_then(|start| after_scheme.get(start..)).unwrap_or("/");
    let target = if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
    Head::new(request.method(), &target, read_headers(&request.headers()))
}

/// Headers with lower-case names. Several of one name are one value, joined with commas, as the Fetch standard has it.
pub(crate) fn read_headers(headers: &web_sys::Headers) -> Headers {
    let pairs = js_sys::try_iter(headers).ok().flatten();
    let read = |pair: JsValue| {
        let pair: js_sys::Array = pair.unchecked_into();
        Some((pair.get(0).as_string()?, pair.get(1).as_string()?.into_bytes()))
    };
    pairs.into_iter().flatten().filter_map(|pair| read(pair.ok()?)).collect()
}

/// Headers as the runtime wants them: text. It replaced what is no UTF-8 when it read it.
pub(crate) fn write_headers(headers: &Headers) -> Result<web_sys::Headers, JsValue> {
    let written = web_sys::Headers::new()?;
    for (name, value) in headers {
        written.append(name, &String::from_utf8_lossy(value))?;
    }
    Ok(written)
}

/// What a reply has as its body.
pub(crate) enum Body {
    None,
    Text(String),
    Stream(ReadableStream),
}

/// A reply. Where the runtime refuses it, one that says nothing but that the gateway failed.
pub(crate) fn reply(status: u16, headers: &Headers, body: &Body) -> Response {
    try_reply(status, headers, body).unwrap_or_else(|error| {
        log::line(&format!("a reply cannot be sent: {}", log::describe(&error)));
        problem(&internal(), None, Vec::new())
    })
}

pub(crate) fn try_reply(status: u16, headers: &Headers, body: &Body) -> Result<Response, JsValue> {
    let init = ResponseInit::new();
    init.set_status(status);
    let headers = write_headers(headers)?;
    init.set_headers(&headers);
    match body {
        Body::None => Response::new_with_opt_str_and_init(None, &init),
        Body::Text(text) => Response::new_with_opt_str_and_init(Some(text), &init),
        Body::Stream(stream) => Response::new_with_opt_readable_stream_and_init(Some(stream), &init),
    }
}

pub(crate) fn internal() -> Problem {
    Problem::new(Code::Internal, "The gateway failed.")
}

/// A refusal.
pub(crate) fn problem(problem: &Problem, request_id: Option<&str>, more_headers: Headers) -> Response {
    let mut headers = more_headers;
    headers.push(("content-type".to_owned(), b"application/problem+json".to_vec()));
    if let Some(request_id) = request_id {
        headers.push(("x-request-id".to_owned(), request_id.into()));
    }
    if let Some(seconds) = problem.retry_after_s {
        headers.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
    }
    let body = Body::Text(problem.to_json(request_id));
    // Nothing in it is a caller's but ids that were checked.
    try_reply(problem.status, &headers, &body).unwrap_or_else(|_| Response::error())
}

/// An answer of the control API.
pub(crate) fn control_reply(answer: ControlAnswer, method: &str) -> Response {
    let mut headers: Headers = vec![("content-type".to_owned(), answer.content_type.into_bytes())];
    headers.extend(answer.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.into_bytes())));
    let body = if method == "HEAD" {
        headers.push(("content-length".to_owned(), answer.body.len().to_string().into_bytes()));
        Body::None
    } else {
        Body::Text(answer.body)
    };
    reply(answer.status, &headers, &body)
}
