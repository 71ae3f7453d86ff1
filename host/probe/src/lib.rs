//! A component that does on request what the runner must cope with. Each path is one behaviour.
#![cfg(all(target_arch = "wasm32", target_os = "wasi"))]

use spin_sdk::sqlite::wit::sqlite as sync_sqlite;
use spin_sdk::sqlite::{Connection, Value};
use spin_sdk::wasip3::clocks::monotonic_clock;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use spin_sdk::wasip3::http::{self, client};
use spin_sdk::wasip3::{spawn, wit_future, wit_stream};

const MS: u64 = 1_000_000;

struct Probe;

impl spin_sdk::wasip3::exports::http::handler::Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.as_str() {
            "/fetch" => fetch(request).await,
            "/variable" => text(spin_sdk::variables::get("greeting").await.unwrap_or_else(|error| error.to_string())),
            "/undeclared" => text(format!("{:?}", spin_sdk::variables::get("undeclared").await)),
            "/file" => text(std::fs::read_to_string("/spin.toml").unwrap_or_else(|error| error.to_string())),
            "/write-file" => text(format!("{:?}", std::fs::write("/new", "x").map_err(|error| error.kind()))),
            "/forbidden" => text(format!("{:?}", Fields::from_list(&[("connection".to_owned(), b"close".to_vec())]).err())),
            "/async-sql" => text(async_sql().await.unwrap_or_else(|error| error.to_string())),
            "/sync-sql" => text(sync_sql().unwrap_or_else(|error| format!("{error:?}"))),
            "/trap" => panic!("asked to"),
            "/cut" => streamed(true),
            "/endless" => streamed(false),
            "/drain" => {
                let reply = fetch(request).await?;
                spawn(drain(reply));
                text("going".to_owned())
            }
            "/after" => {
                spawn(async {
                    monotonic_clock::wait_for(1000 * MS).await;
                    record("after");
                });
                text("later".to_owned())
            }
            _ => Err(ErrorCode::InternalError(Some("no such behaviour".to_owned()))),
        }
    }
}

http::service::export!(Probe);

fn text(body: String) -> Result<Response, ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    spawn(async move {
        writer.write_all(body.into_bytes()).await;
    });
    Ok(Response::new(Fields::new(), Some(reader), wit_future::new(|| Ok(None)).1).0)
}

/// Sends chunks; traps after the first where `trap`, else goes on until the caller has left, and records that.
fn streamed(trap: bool) -> Result<Response, ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let (response, _) = Response::new(Fields::new(), Some(reader), wit_future::new(|| Ok(None)).1);
    spawn(async move {
        writer.write_all(b"first".to_vec()).await;
        monotonic_clock::wait_for(50 * MS).await;
        assert!(!trap, "asked to");
        while writer.write_all(b"more".to_vec()).await.is_empty() {
            monotonic_clock::wait_for(10 * MS).await;
        }
        record("left");
    });
    Ok(response)
}

/// Reads a reply that nobody gets, and records that it has ended.
async fn drain(reply: Response) {
    let (mut chunks, _) = Response::consume_body(reply, wit_future::new(|| Ok(())).1);
    while chunks.next().await.is_some() {}
    record("drained");
}

/// Sends this request's body and method on to the URL in `x-url`, with the time-out in `x-first-byte-ms`.
async fn fetch(request: Request) -> Result<Response, ErrorCode> {
    let header = |name: &str| {
        let values = request.get_headers().get(name);
        values.first().map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let url = header("x-url").unwrap_or_default();
    let first_byte_ms = header("x-first-byte-ms").and_then(|ms| ms.parse::<u64>().ok());
    let method: Method = request.get_method();
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let options = RequestOptions::new();
    if let Some(ms) = first_byte_ms {
        _ = options.set_first_byte_timeout(Some(ms * MS));
    }
    let (body, trailers) = Request::consume_body(request, wit_future::new(|| Ok(())).1);
    let (outgoing, _) = Request::new(Fields::new(), Some(body), trailers, Some(options));
    _ = outgoing.set_method(&method);
    _ = outgoing.set_scheme(Some(if scheme == "https" { &Scheme::Https } else { &Scheme::Http }));
    _ = outgoing.set_authority(Some(authority));
    _ = outgoing.set_path_with_query(Some(&format!("/{path}")));
    match client::send(outgoing).await {
        Ok(reply) => Ok(reply),
        Err(error) => text(format!("failed: {error:?}")),
    }
}

async fn async_sql() -> Result<String, spin_sdk::sqlite::Error> {
    let connection = Connection::open_default().await?;
    let run = async |statement: &str| connection.execute(statement, Vec::new()).await?.collect().await;
    run("CREATE TABLE IF NOT EXISTS numbers (n INTEGER)").await?;
    run("INSERT INTO numbers VALUES (1), (2), (3)").await?;
    let rows = run("SELECT sum(n) FROM numbers").await?;
    let failed = run("SELECT * FROM missing").await.err();
    Ok(format!("{rows:?} changes={} {failed:?}", connection.changes().await))
}

fn sync_sql() -> Result<String, sync_sqlite::Error> {
    let connection = sync_sqlite::Connection::open("default")?;
    let denied = sync_sqlite::Connection::open("other").map(|_| ()).err();
    let rows = connection.execute("SELECT ?1 + 1", &[Value::Integer(41)])?.rows;
    Ok(format!("{rows:?} {denied:?}"))
}

fn record(what: &str) {
    let recorded = sync_sqlite::Connection::open("default").and_then(|connection| {
        connection.execute("CREATE TABLE IF NOT EXISTS seen (what TEXT)", &[])?;
        connection.execute("INSERT INTO seen VALUES (?1)", &[Value::Text(what.to_owned())])
    });
    assert!(recorded.is_ok(), "{recorded:?}");
}
