//! Recorded bodies with random damage, in random chunks, from a fixed seed: nothing panics, the cuts never matter, and what `serde_json` accepts is read
//! as it says. `FUZZ_INPUTS` is how many inputs each test tries; every million takes some minutes in a release build.

use super::documents::{Tree, scanner};
use super::producers::{anthropic, gemini, openai_chat};
use super::{EVENTS, JSON, reply, settings, tokens};
use crate::meter::path::Path;
use crate::meter::plan::Measure;
use crate::meter::{Usage, UsageMeter, UsageSettings};

/// How many inputs each test tries where nobody asks for more.
const INPUTS: u64 = 4000;

fn inputs() -> u64 {
    std::env::var("FUZZ_INPUTS").ok().map_or(INPUTS, |count| count.parse().expect("FUZZ_INPUTS is a number"))
}

/// A generator of random numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }
}

/// What damage is made of.
const TOKENS: [&str; 34] = [
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "\\ude00",
    "\\u0061",
    "{",
    "}",
    "[",
    "]",
    "[]",
    "{}",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "1e3",
    "1.5",
    "\"7\"",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "data",
    "data:",
    "data: ",
    ":",
    "\u{feff}",
    " ",
    "\"usage\":",
    "\"prompt_tokens\":",
    "\"choices\":[]",
    "é😀",
];

/// One body with some damage, mostly short enough to try many.
fn damaged(random: &mut Random, bodies: &[String]) -> Vec<u8> {
    let body = bodies[random.below(bodies.len())].as_bytes();
    let from = if random.below(4) == 0 { random.below(body.len()) } else { 0 };
    let mut body = body[from..].to_vec();
    body.truncate(1 + random.below(1500));
    for _ in 0..random.below(12) {
        let at = random.below(body.len() + 1);
        match random.below(4) {
            0 => drop(body.splice(at..at, random.pick(&TOKENS).bytes())),
            1 => drop(body.drain(at..(at + random.below(8)).min(body.len()))),
            2 if at < body.len() => body[at] = random.below(256) as u8,
            _ => {
                let to = (at + random.below(100)).min(body.len());
                let copied = body[at..to].to_vec();
                let into = random.below(body.len() + 1);
                drop(body.splice(into..into, copied));
            }
        }
    }
    body
}

/// Chunks of random sizes, some of them empty.
fn chunks<'b>(random: &mut Random, mut body: &'b [u8]) -> Vec<&'b [u8]> {
    let size = 1 + random.below(40);
    let mut chunks = Vec::new();
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(random.below(size + 1).min(body.len()));
        chunks.push(chunk);
        body = rest;
    }
    chunks
}

fn passed(meter: &UsageMeter, chunks: &[&[u8]]) -> (Vec<u8>, Usage) {
    let request = meter.read_request(br#"{"stream":true}"#);
    let (mut reply, mut all) = (meter.read_reply(request, Some(EVENTS)), Vec::new());
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        reply.pass(&mut chunk);
        all.append(&mut chunk);
    }
    reply.release(&mut all);
    (all, reply.usage())
}

/// What the gate leaves of a stream by a plain reading. `None` where that is not plain: other line endings, or JSON that `serde_json` does not accept.
fn without_usage_only(stream: &[u8]) -> Option<Vec<u8>> {
    let stream = std::str::from_utf8(stream).ok().filter(|stream| !stream.contains('\r') && !stream.starts_with('\u{feff}'))?;
    let (mut left, mut event, mut data) = (String::new(), String::new(), Vec::new());
    for line in stream.split_inclusive('\n') {
        let comment_first = line.starts_with(':') && event.is_empty();
        (if comment_first { &mut left } else { &mut event }).push_str(line);
        match line.strip_suffix('\n') {
            Some("") => {
                let value = (!data.is_empty()).then(|| serde_json::from_str::<serde_json::Value>(&data.join("\n")).ok());
                // Without data it is no event, and with data that are no JSON the two readers may differ in how they are wrong.
                let value = value.map_or(Some(serde_json::Value::Null), |value| value)?;
                let is_it = value["choices"].as_array().is_some_and(Vec::is_empty) && value["usage"].is_object();
                left.push_str(if is_it { "" } else { &event });
                (event, data) = (String::new(), Vec::new());
            }
            Some("data") => data.push(""),
            Some(field) => data.extend(field.strip_prefix("data:").map(|value| value.strip_prefix(' ').unwrap_or(value))),
            None => {}
        }
    }
    Some((left + &event).into_bytes())
}

#[test]
fn damaged_streams_are_read_the_same_however_they_are_cut_and_the_gate_only_takes_away() {
    let bodies = [
        openai_chat().split_off(90_000),
        anthropic(),
        gemini(),
        anthropic().replace('\n', "\r"),
        openai_chat().split_off(97_000),
    ];
    let meter = UsageMeter::new(UsageSettings { request_usage: true, ..settings(tokens()) });
    let mut random = Random(1);
    for _ in 0..inputs() {
        let body = damaged(&mut random, &bodies);
        let cut = chunks(&mut random, &body);
        let text = || String::from_utf8_lossy(&body).into_owned();
        for content_type in [EVENTS, "application/x-ndjson"] {
            let [mut whole, mut parts] = [reply(&meter, content_type), reply(&meter, content_type)];
            whole.feed(&body);
            cut.iter().for_each(|chunk| parts.feed(chunk));
            assert_eq!(whole.usage(), parts.usage(), "{content_type}: {}", text());
        }
        let (seen, usage) = passed(&meter, &[&body]);
        assert_eq!(passed(&meter, &cut), (seen.clone(), usage), "{}", text());
        let mut rest = body.iter();
        assert!(seen.iter().all(|byte| rest.any(|other| other == byte)), "something was added or moved: {}", text());
        if let Some(expected) = without_usage_only(&body) {
            assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(&expected), "{}", text());
        }
    }
}

#[test]
fn damaged_documents_are_read_as_serde_json_reads_them_however_they_are_cut() {
    let bodies: Vec<String> = [
        r#"{"usage":{"prompt_tokens":9,"x":{"y":[1,{"prompt_tokens":2}]}},"choices":[{"text":"a\"\u00e9\\"}],"usage":{"prompt_tokens":"7"}}"#,
        r#"[{"usage":[{"prompt_tokens":1},{"prompt_tokens":2}]},{"a":[[],[{}]],"usage":null}]"#,
        r#" {"a" : [ 1 , 2.5e3 , null , true , "\ud83d\ude00" ] , "usage" : { "prompt_tokens" : 12 } } "#,
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    let path = Path::parse("usage.prompt_tokens").unwrap();
    let measures = [Measure::Number, Measure::Bytes, Measure::Characters];
    let mut random = Random(2);
    let mut accepted = 0_u64;
    for _ in 0..inputs() {
        let mut body = damaged(&mut random, &bodies);
        body.push(b'\n');
        let wanted = measures.map(|measure| (path.clone(), measure));
        let [mut whole, mut parts] = [scanner(&wanted), scanner(&wanted)];
        whole.feed(&body);
        chunks(&mut random, &body).iter().for_each(|chunk| parts.feed(chunk));
        let text = || String::from_utf8_lossy(&body).into_owned();
        assert_eq!(whole.values(), parts.values(), "{}", text());
        assert_eq!(whole.is_between_documents(), parts.is_between_documents(), "{}", text());
        let Ok(tree) = serde_json::from_slice::<Tree>(&body) else { continue };
        accepted += 1;
        assert!(whole.is_between_documents(), "{}", text());
        if !tree.has_decimals() {
            let expected = measures.map(|measure| tree.last(&path, measure));
            assert_eq!(whole.values(), expected, "{}", text());
        }
    }
    assert!(accepted > inputs() / 100, "enough damaged documents are still documents: {accepted}");
}

#[test]
fn damaged_requests_are_edited_into_what_asks_for_usage_and_is_otherwise_the_same() {
    let bodies: Vec<String> = [
        r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a\"b"}]}"#,
        r#"{"stream":true,"stream_options":{"include_usage":false,"x":1},"n":2,"max_tokens":10}"#,
        r#"{"stream_options":null,"messages":[],"stream":true}"#,
        r#"{"stream_options":{},"stream":true}"#,
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    let meter = UsageMeter::new(UsageSettings { request_usage: true, ..settings(tokens()) });
    let mut random = Random(3);
    let mut edited = 0_u64;
    for _ in 0..inputs() {
        let body = damaged(&mut random, &bodies);
        let reading = meter.read_request(&body);
        let Ok(mut before) = serde_json::from_slice::<serde_json::Value>(&body) else { continue };
        let sent = reading.body_for_backend(body.clone());
        let mut after: serde_json::Value = serde_json::from_slice(&sent).expect("an edited document is a document");
        if !reading.asks_for_usage() {
            assert_eq!(sent, body);
            continue;
        }
        edited += 1;
        assert_eq!(after["stream_options"]["include_usage"], true, "{}", String::from_utf8_lossy(&sent));
        for value in [&mut before, &mut after] {
            value.as_object_mut().unwrap().remove("stream_options");
        }
        assert_eq!(before, after, "{}", String::from_utf8_lossy(&sent));
    }
    assert!(edited > inputs() / 100, "enough damaged requests are still edited: {edited}");
}

#[test]
fn random_bytes_are_read_the_same_however_they_are_cut() {
    let meter = UsageMeter::new(settings(tokens()));
    let mut random = Random(4);
    for _ in 0..inputs() {
        let body: Vec<u8> = (0..random.below(60)).flat_map(|_| random.pick(&TOKENS).bytes().collect::<Vec<_>>()).collect();
        let cut = chunks(&mut random, &body);
        for content_type in [EVENTS, JSON, "application/x-ndjson"] {
            let [mut whole, mut parts] = [reply(&meter, content_type), reply(&meter, content_type)];
            whole.feed(&body);
            cut.iter().for_each(|chunk| parts.feed(chunk));
            assert_eq!(whole.usage(), parts.usage(), "{content_type}: {:?}", String::from_utf8_lossy(&body));
        }
    }
}
