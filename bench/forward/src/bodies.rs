//! What becomes of a reply's body on its way: handed over unseen, passed on chunk by chunk, or read by the meter as well. And how fast the meter reads.
//!
//! The meter is compiled from Tollgate's sources, as it is in Tollgate's component: the crate itself exports a handler of its own, and a component has one.

use spin_sdk::wasip3;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Request, Response};
use spin_sdk::wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult};
use spin_sdk::wasip3::{wit_future, wit_stream};

use crate::accepted;
use crate::meter::{Factor, HoldRule, Item, Measure, Overrun, Path, ReplyMeter, ShortHold, Source, UsageMeter, UsageSettings};
use crate::quantity::Quantity;

/// How much is read at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// How much the meter is fed at once where its speed is measured: about what a socket gives.
const FED_BYTES: usize = 16 * 1024;

/// How long one measurement takes.
const MEASURED_NS: u64 = 150_000_000;

/// What becomes of bodies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// Replies are handed over as the streams they arrived as.
    HandedOver,
    /// Replies pass through this component's memory.
    Passed,
    /// As `Passed`, and the meter of a product sold by the token reads them.
    Scanned,
    /// Nothing is forwarded: the answer is how fast the meter reads the request's body.
    Measured,
}

impl Bodies {
    /// The value of the variable `bodies`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "handed_over" => Some(Self::HandedOver),
            "passed" => Some(Self::Passed),
            "scanned" => Some(Self::Scanned),
            "measured" => Some(Self::Measured),
            _ => None,
        }
    }
}

/// The end of a body.
type Ending = Result<Option<Fields>, ErrorCode>;

/// A meter of tokens, as a product has it that names no items.
pub(crate) fn meter() -> UsageMeter {
    let item = |fields: [&str; 2], weight| Item {
        fields: fields.into_iter().filter_map(Path::parse).collect(),
        source: Source::Reply,
        measure: Measure::Number,
        scale: Factor::ONE,
        weight: Factor::parse(weight).unwrap_or(Factor::ONE),
    };
    UsageMeter::new(UsageSettings {
        unit: "token".to_owned(),
        items: vec![
            item(["usage.prompt_tokens", "usage.input_tokens"], "1"),
            item(["usage.completion_tokens", "usage.output_tokens"], "3"),
        ],
        hold: HoldRule {
            fields: Vec::new(),
            weight: Factor::ONE,
            default: Factor::ONE,
            input_weight: Factor::ONE,
            min: Quantity::ONE,
        },
        short_hold: ShortHold::Admit,
        overrun: Overrun::Absorb,
        request_usage: false,
    })
}

/// The body's content type.
pub(crate) fn content_type(headers: &Fields) -> Option<String> {
    String::from_utf8(headers.get("content-type").into_iter().next()?).ok()
}

/// Passes a body on chunk by chunk; answers what the caller gets.
pub(crate) fn pass(
    reader: Option<ReplyMeter>,
    chunks: StreamReader<u8>,
    ending: FutureReader<Ending>,
) -> (StreamReader<u8>, FutureReader<Ending>) {
    let (mut to, passed) = wit_stream::new();
    let (ending_to, ending_passed) = wit_future::new::<Ending>(|| Err(ErrorCode::HttpResponseIncomplete));
    wasip3::spawn(async move {
        let mut reader = reader;
        let mut chunks = chunks;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES_MAX);
        loop {
            let (result, chunk) = chunks.read(buffer).await;
            if let Some(reader) = &mut reader {
                reader.feed(&chunk);
            }
            if chunk.is_empty() && result != StreamResult::Complete(0) {
                break;
            }
            buffer = to.write_all(chunk).await;
            if !buffer.is_empty() {
                // The caller has left.
                return;
            }
            buffer.reserve(CHUNK_BYTES_MAX);
        }
        if let Some(reader) = reader {
            // A charge would be made of it.
            std::hint::black_box(reader.usage());
        }
        drop(to);
        // A caller that has left needs no end.
        let _ = ending_to.write(ending.await).await;
    });
    (passed, ending_passed)
}

/// Reads the request's body into memory and has the meter read it from there, again and again. Answers `BYTES NANOSECONDS`.
pub(crate) async fn measure(request: Request) -> Result<Response, ErrorCode> {
    let content_type = content_type(&request.get_headers());
    let (mut chunks, _ending) = Request::consume_body(request, accepted());
    let mut body = Vec::new();
    loop {
        let (result, mut chunk) = chunks.read(Vec::with_capacity(CHUNK_BYTES_MAX)).await;
        if chunk.is_empty() && result != StreamResult::Complete(0) {
            break;
        }
        body.append(&mut chunk);
    }
    let meter = meter();
    let reading = meter.read_request(b"");
    let started_ns = wasip3::clocks::monotonic_clock::now();
    let (mut bytes, mut elapsed_ns) = (0_u64, 0);
    while elapsed_ns < MEASURED_NS {
        let mut reader = meter.read_reply(reading.clone(), content_type.as_deref());
        body.chunks(FED_BYTES).for_each(|chunk| reader.feed(chunk));
        if !reader.usage().is_readable {
            return Err(ErrorCode::InternalError(Some("the meter found nothing in the body".to_owned())));
        }
        bytes += body.len() as u64;
        elapsed_ns = wasip3::clocks::monotonic_clock::now().saturating_sub(started_ns);
    }
    let text = format!("{bytes} {elapsed_ns}").into_bytes();
    let headers = Fields::from_list(&[("content-length".to_owned(), text.len().to_string().into_bytes())])
        .map_err(|error| ErrorCode::InternalError(Some(error.to_string())))?;
    let (mut to, chunks) = wit_stream::new();
    let (ending_to, ending) = wit_future::new::<Ending>(|| Ok(None));
    wasip3::spawn(async move {
        let _ = to.write_all(text).await;
        drop(ending_to);
    });
    Ok(Response::new(headers, Some(chunks), ending).0)
}
