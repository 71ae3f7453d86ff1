//! The little of HTTP/1.1 that both ends of the benchmark read. Heads are looked at, never taken apart: this code shares the cores
//! with what is measured.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger than any head in a run.
pub(crate) const HEAD_LIMIT_BYTES: usize = 64 * 1024;

/// A request of the control API that takes longer has failed.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// The length of the head with its blank line, once it is all there.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (found, value) = line.split_at_checked(colon)?;
        if found.eq_ignore_ascii_case(name.as_bytes()) { Some(std::str::from_utf8(value.get(1..)?).ok()?.trim()) } else { None }
    })
}

/// The length of head and body, where the head declares it.
pub(crate) fn whole_length(head: &[u8]) -> Option<usize> {
    Some(head.len() + header(head, "content-length")?.parse::<usize>().ok()?)
}

/// The status of a reply.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// One request on a connection of its own. HTTP/1.0, so that the reply is not chunked. It ends with its declared length, or with the connection: not every
/// server closes that.
pub(crate) async fn once(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    content_type: &str,
    body: &str,
) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    let is_whole = |reply: &[u8]| {
        let head = head_length(reply).and_then(|head_bytes| reply.get(..head_bytes));
        head.and_then(whole_length).is_some_and(|length| reply.len() >= length)
    };
    let read = async {
        while !is_whole(&reply) && stream.read_buf(&mut reply).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    tokio::time::timeout(REPLY_LIMIT, read).await??;
    let malformed = || std::io::Error::other("a reply that is not HTTP");
    let head_bytes = head_length(&reply).ok_or_else(malformed)?;
    let status = status(&reply).ok_or_else(malformed)?;
    Ok((status, reply.split_off(head_bytes)))
}
