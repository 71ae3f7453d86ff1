//! Forwards every request to the backend named by the variable `backend`, and does nothing else.
//!
//! It is the yardstick: the least that a forwarding component on the same runtime can cost. It copies
//! end-to-end headers and hands bodies over as the streams they arrived as, so the runtime moves their
//! bytes without this component ever seeing them.
//!
//! The variable `bodies` makes something else of bodies, so that what that costs can be told apart.
#![cfg(all(target_arch = "wasm32", target_os = "wasi"))]

mod bodies;
#[path = "../../../src/meter/mod.rs"]
pub mod meter;
#[path = "../../../src/quantity.rs"]
pub mod quantity;
#[path = "../../../src/sorted.rs"]
pub mod sorted;

use std::cell::OnceCell;

use bodies::Bodies;
use meter::UsageMeter;
use spin_sdk::variables;
use spin_sdk::wasip3::http::client;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, HeaderError, Request, Response, Scheme};
use spin_sdk::wasip3::{http, wit_bindgen, wit_future};

/// Headers that belong to one connection, and those the runtime adds for the component alone.
const NOT_FORWARDED: [&str; 9] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

thread_local! {
    /// They cannot change while the process lives, so one look-up per instance is enough.
    static SETTINGS: OnceCell<Settings> = const { OnceCell::new() };
}

#[derive(Clone)]
struct Settings {
    scheme: Scheme,
    authority: String,
    bodies: Bodies,
    /// Where it reads the replies.
    meter: Option<UsageMeter>,
}

struct Forward;

impl spin_sdk::wasip3::exports::http::handler::Guest for Forward {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let settings = settings().await?;
        if settings.bodies == Bodies::Measured {
            return bodies::measure(request).await;
        }
        let reply = client::send(outgoing(request, &settings)?).await?;
        let status = reply.get_status_code();
        let headers = end_to_end(&reply.get_headers())?;
        let content_type = settings.meter.as_ref().and_then(|_| bodies::content_type(&headers));
        let (body, trailers) = Response::consume_body(reply, accepted());
        let (body, trailers) = if settings.bodies == Bodies::HandedOver {
            (body, trailers)
        } else {
            let reader = settings.meter.map(|meter| meter.read_reply(meter.read_request(b""), content_type.as_deref()));
            bodies::pass(reader, body, trailers)
        };
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        response.set_status_code(status).map_err(|()| ErrorCode::HttpProtocolError)?;
        Ok(response)
    }
}

http::service::export!(Forward);

fn outgoing(request: Request, settings: &Settings) -> Result<Request, ErrorCode> {
    let method = request.get_method();
    let path = request.get_path_with_query();
    let headers = end_to_end(&request.get_headers())?;
    let (body, trailers) = Request::consume_body(request, accepted());
    let (outgoing, _sent) = Request::new(headers, Some(body), trailers, None);
    outgoing.set_method(&method).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    outgoing.set_path_with_query(path.as_deref()).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    outgoing.set_scheme(Some(&settings.scheme)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    outgoing.set_authority(Some(&settings.authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    Ok(outgoing)
}

fn end_to_end(headers: &Fields) -> Result<Fields, ErrorCode> {
    let mut headers = headers.copy_all();
    headers.retain(|(name, _)| !NOT_FORWARDED.contains(&name.as_str()) && !name.starts_with("spin-"));
    Fields::from_list(&headers).map_err(|error: HeaderError| ErrorCode::InternalError(Some(error.to_string())))
}

/// What the runtime is told about a body this component takes over: nothing was wrong with it.
fn accepted() -> wit_bindgen::FutureReader<Result<(), ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

async fn settings() -> Result<Settings, ErrorCode> {
    if let Some(settings) = SETTINGS.with(|cell| cell.get().cloned()) {
        return Ok(settings);
    }
    let url = variable("backend").await?;
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(ErrorCode::ConfigurationError),
    };
    let bodies = Bodies::named(&variable("bodies").await?).ok_or(ErrorCode::ConfigurationError)?;
    let meter = (bodies == Bodies::Scanned).then(bodies::meter);
    let settings = Settings { scheme, authority: rest.trim_end_matches('/').to_owned(), bodies, meter };
    Ok(SETTINGS.with(|cell| cell.get_or_init(|| settings).clone()))
}

async fn variable(name: &str) -> Result<String, ErrorCode> {
    variables::get(name).await.map_err(|error| ErrorCode::InternalError(Some(error.to_string())))
}
