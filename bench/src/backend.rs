//! The backend of every server under test: the cheapest honest HTTP/1.1 responder, on a thread of its own.

use crate::error::BenchError;
use crate::http::{HEAD_LIMIT_BYTES, head_length, header};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{\"translation\":\"bonjour !\"}";

/// Listens on a free port of the loopback interface until the process ends.
pub(crate) fn start() -> Result<SocketAddr, BenchError> {
    let listener =
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| BenchError::Io("the backend's port", error))?;
    let address = listener.local_addr().map_err(|error| BenchError::Io("the backend's address", error))?;
    listener.set_nonblocking(true).map_err(|error| BenchError::Io("the backend's socket", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| BenchError::Io("the backend's runtime", error))?;
    std::thread::spawn(move || runtime.block_on(serve(listener)));
    Ok(address)
}

async fn serve(listener: std::net::TcpListener) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream));
    }
}

/// Answers until the peer leaves or sends what is no request.
async fn answer(mut stream: TcpStream) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    loop {
        while let Some(request_bytes) = request_length(&buffer) {
            buffer.drain(..request_bytes);
            stream.write_all(REPLY).await.ok()?;
        }
        if buffer.len() > HEAD_LIMIT_BYTES || stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The length of the first request with its body, once it is all there.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let head_bytes = head_length(buffer)?;
    let (head, rest) = buffer.split_at_checked(head_bytes)?;
    let body_bytes = if header(head, "transfer-encoding").is_some() {
        rest.windows(5).position(|window| window == b"0\r\n\r\n")? + 5
    } else {
        header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    };
    (rest.len() >= body_bytes).then_some(head_bytes + body_bytes)
}
