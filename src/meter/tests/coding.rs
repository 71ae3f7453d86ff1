//! Bodies that come compressed all the same are read as if they came plain, and cost bounded time and memory.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::{EVENTS, JSON, charged, meter, reply, tokens};
use crate::meter::{ReplyMeter, Usage, UsageMeter};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(body).unwrap();
    encoder.into_inner()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).unwrap()
}

fn coded(meter: &UsageMeter, content_type: &str, encoding: &str) -> ReplyMeter {
    reply(meter, content_type).with_encoding(Some(encoding))
}

fn usage(encoding: &str, content_type: &str, chunks: &[&[u8]]) -> Usage {
    let meter = meter(tokens());
    let mut reply = coded(&meter, content_type, encoding);
    chunks.iter().for_each(|chunk| reply.feed(chunk));
    reply.usage()
}

#[test]
fn a_compressed_body_costs_what_the_plain_one_does_wherever_it_is_cut() {
    let json = br#"{"id":"a","choices":[{"text":"hello hello hello hello"}],"usage":{"prompt_tokens":10,"completion_tokens":2}}"#;
    let events =
        b"data: {\"choices\":[{}]}\n\ndata: {\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    for (content_type, body) in [(JSON, json.as_slice()), (EVENTS, events.as_slice())] {
        for (encoding, body) in [
            ("gzip", gzip(body)),
            ("x-gzip", gzip(body)),
            (" GZip ", gzip(body)),
            ("deflate", zlib(body)),
            ("br", brotli(body)),
            (" BR", brotli(body)),
            ("zstd", zstd(body)),
        ] {
            for cut in 0..=body.len() {
                let (first, second) = body.split_at(cut);
                assert_eq!(charged(usage(encoding, content_type, &[first, second])), "16", "{encoding} cut at {cut}");
            }
        }
    }
    let (first, second) = json.split_at(40);
    assert_eq!(charged(usage("gzip", JSON, &[&gzip(first), &gzip(second)])), "16", "two members are one body");
    assert_eq!(charged(usage("zstd", JSON, &[&zstd(first), &zstd(second)])), "16", "two frames are one body");
}

#[test]
fn a_coding_that_is_not_read_and_one_that_lies_say_no_usage() {
    let body = br#"{"usage":{"prompt_tokens":10}}"#;
    for encoding in ["br", "zstd", "gzip, gzip", "gzip", "deflate", "compress"] {
        assert_eq!(usage(encoding, JSON, &[body.as_slice()]).quantity, None, "{encoding}");
    }
    assert_eq!(charged(usage("identity", JSON, &[body.as_slice()])), "10");
}

#[test]
fn what_was_decoded_before_a_cut_counts() {
    let mut numbers: u32 = 1;
    let noise: Vec<u8> = (0..200_000)
        .map(|_| {
            numbers = numbers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + numbers.to_le_bytes()[3] % 26
        })
        .collect();
    let body = [br#"{"usage":{"prompt_tokens":10},"text":""#.as_slice(), &noise, b"\"}"].concat();
    for (encoding, whole) in [("gzip", gzip(&body)), ("deflate", zlib(&body)), ("br", brotli(&body)), ("zstd", zstd(&body))] {
        let cut = usage(encoding, JSON, &[&whole[..whole.len() - 20]]);
        assert_eq!(charged(cut), "10", "{encoding}");
    }
}

/// Writes 129 MiB and a usage.
fn write_too_much(mut encoder: impl Write) -> impl Write {
    let mebibyte = vec![b' '; 1 << 20];
    (0..129).for_each(|_| encoder.write_all(&mebibyte).unwrap());
    encoder.write_all(br#"{"usage":{"prompt_tokens":10}}"#).unwrap();
    encoder.flush().unwrap();
    encoder
}

#[test]
fn a_body_that_decodes_to_too_much_is_read_no_further() {
    let (mut in_gzip, mut in_brotli, mut in_zstd) = (Vec::new(), Vec::new(), Vec::new());
    drop(write_too_much(GzEncoder::new(&mut in_gzip, Compression::fast())));
    drop(write_too_much(brotli::CompressorWriter::new(&mut in_brotli, 4096, 1, 22)));
    drop(write_too_much(zstd::Encoder::new(&mut in_zstd, 1).unwrap()));
    for (encoding, body) in [("gzip", in_gzip), ("br", in_brotli), ("zstd", in_zstd)] {
        assert_eq!(usage(encoding, JSON, &[&body]).quantity, None, "{encoding}");
    }
}

#[test]
fn a_compressed_stream_goes_on_as_it_came_even_where_an_event_would_be_taken_out() {
    let asking = UsageMeter::new(crate::meter::UsageSettings { request_usage: true, ..super::settings(tokens()) });
    let request = asking.read_request(br#"{"stream":true}"#);
    assert!(request.asks_for_usage());
    let mut reply = asking.read_reply(request, Some(EVENTS)).with_encoding(Some("gzip"));
    assert!(!reply.is_gated());
    let body = gzip(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7}}\n\n");
    let mut passed = body.clone();
    reply.pass(&mut passed);
    assert_eq!((passed, charged(reply.usage())), (body, "7".to_owned()));
}
