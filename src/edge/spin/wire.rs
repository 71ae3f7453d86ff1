//! Between the runtime's requests and responses and the rooms' own.

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

use super::log;
use crate::control;
use crate::gateway::{Head, Headers};
use crate::problem::Problem;

/// The end of a body: trailers, or why it broke off.
pub(super) type BodyEnding = Result<Option<Fields>, ErrorCode>;

pub(super) fn read_head(request: &Request) -> Head {
    let target = request.get_path_with_query().unwrap_or_default();
    Head::new(method_text(&request.get_method()), &target, request.get_headers().copy_all())
}

fn method_text(method: &Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => other,
    }
    .to_owned()
}

/// What the runtime is told of a body that was taken over: nothing was wrong with it.
pub(super) fn accepted() -> wit_bindgen::FutureReader<Result<(), ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

/// Headers as the runtime wants them.
pub(super) fn fields(headers: &Headers) -> Result<Fields, ErrorCode> {
    Fields::from_list(headers).map_err(|error| internal(&format!("a header cannot be sent: {error}")))
}

/// Logs what went wrong inside, and fails the request without a word of it.
pub(super) fn internal(reason: &str) -> ErrorCode {
    log::line(reason.to_owned());
    ErrorCode::InternalError(None)
}

/// A response whose body is there already.
pub(super) fn text_response(status: u16, headers: Headers, body: String, method: &str) -> Result<Response, ErrorCode> {
    let mut headers = headers;
    headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
    let fields = fields(&headers)?;
    let (trailers_writer, trailers) = wit_future::new::<BodyEnding>(|| Ok(None));
    drop(trailers_writer);
    let response = if method == "HEAD" || body.is_empty() {
        Response::new(fields, None, trailers).0
    } else {
        let (mut writer, reader) = wit_stream::new();
        wasip3::spawn(async move {
            // A caller that has left needs no body.
            let _ = writer.write_all(body.into_bytes()).await;
        });
        Response::new(fields, Some(reader), trailers).0
    };
    response.set_status_code(status).map_err(|()| internal("a status cannot be sent"))?;
    Ok(response)
}

/// A refusal.
pub(super) fn problem(problem: &Problem, request_id: Option<&str>, more_headers: Headers) -> Result<Response, ErrorCode> {
    let mut headers = more_headers;
    headers.push(("content-type".to_owned(), b"application/problem+json".to_vec()));
    if let Some(request_id) = request_id {
        headers.push(("x-request-id".to_owned(), request_id.into()));
    }
    if let Some(seconds) = problem.retry_after_s {
        headers.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
    }
    text_response(problem.status, headers, problem.to_json(request_id), "GET")
}

/// An answer of the control API.
pub(super) fn control_response(response: control::Response, method: &str) -> Result<Response, ErrorCode> {
    let mut headers: Headers = vec![("content-type".to_owned(), response.content_type.into())];
    headers.extend(response.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.into_bytes())));
    text_response(response.status, headers, response.body, method)
}

/// A method as the runtime has it.
pub(super) fn method(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}
