//! Both decoders against the encoders that are in use, on bodies of all kinds, cut anywhere and spoilt anywhere.

use std::io::Write;

use brotli::enc::BrotliEncoderParams;

use super::Decoder;
use super::brotli::Brotli;
use super::input::Stop;
use super::zstd::Zstd;

/// A generator of numbers that are the same every time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

fn brotli(body: &[u8], quality: i32, lgwin: i32) -> Vec<u8> {
    let params = BrotliEncoderParams { quality, lgwin, ..Default::default() };
    let mut coded = Vec::new();
    brotli::BrotliCompress(&mut &*body, &mut coded, &params).unwrap();
    coded
}

/// Bodies that have little in common.
fn bodies() -> Vec<Vec<u8>> {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let noise = (0..5000).map(|_| numbers.below(256).to_le_bytes()[0]).collect();
    let words =
        ["time ", "Which is why ", "\"usage\":{", "</script>", "the world's", "Überraschung", "прИвет ", "日本語", "12345,"];
    let text: String = (0..2500).map(|_| words[numbers.below(words.len())]).collect();
    let items: String = (0..4000).map(|number| format!("{},", number * 7919 % 100_003)).collect();
    let runs = (0..200).flat_map(|_| vec![numbers.below(4).to_le_bytes()[0]; numbers.below(400)]).collect();
    let far: Vec<u8> = (0..4000).map(|_| numbers.below(200).to_le_bytes()[0]).collect();
    let far = [far.clone(), vec![b'x'; 100_000], far].concat();
    vec![Vec::new(), b"a".to_vec(), br#"{"usage":{"total_tokens":23}}"#.to_vec(), noise, text.into(), items.into(), runs, far]
}

/// What a body decoded to, and how it ended.
type Outcome = (Vec<u8>, Result<(), Stop>);

fn decoded(mut decoder: impl Decoder, coded: &[u8], chunk: usize) -> Outcome {
    let mut body = Vec::new();
    let end = coded.chunks(chunk).try_for_each(|chunk| decoder.feed(chunk, &mut body));
    (body, end)
}

fn unbrotli(coded: &[u8], chunk: usize) -> Outcome {
    decoded(Brotli::new(), coded, chunk)
}

fn unzstd(coded: &[u8], chunk: usize) -> Outcome {
    decoded(Zstd::new(), coded, chunk)
}

fn zstd(body: &[u8], level: i32, window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(level % 2 == 0).unwrap();
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn zstd_decodes_what_its_encoder_made_at_every_level_and_window() {
    for body in bodies() {
        for (level, window_log) in [(-5, 10), (-1, 17), (1, 19), (3, 21), (4, 12), (6, 15), (9, 22), (13, 22), (16, 18), (19, 22)]
        {
            let coded = [zstd(&body, level, window_log), zstd::bulk::compress(&body, level).unwrap()].concat();
            let twice = [body.as_slice(), &body].concat();
            for chunk in [1, 7, 1000, usize::MAX] {
                let (found, end) = unzstd(&coded, chunk.min(coded.len()));
                assert!(found == twice && end.is_ok(), "{} bytes at {level}, {window_log} in {chunk}: {end:?}", body.len());
            }
        }
    }
}

#[test]
fn brotli_decodes_what_its_encoder_made_at_every_quality_and_window() {
    for body in bodies() {
        for (quality, lgwin) in
            [(0, 18), (1, 16), (2, 22), (3, 10), (4, 20), (5, 22), (6, 12), (7, 22), (8, 14), (9, 22), (10, 17), (11, 22)]
        {
            let coded = brotli(&body, quality, lgwin);
            for chunk in [1, 7, 1000, usize::MAX] {
                let (found, end) = unbrotli(&coded, chunk.min(coded.len().max(1)));
                assert!(found == body && end.is_ok(), "{} bytes at {quality}, {lgwin} in {chunk}: {end:?}", body.len());
            }
        }
    }
}

#[test]
fn brotli_refuses_a_window_that_is_too_large_and_bytes_after_the_end() {
    let body = vec![b'x'; 100];
    let mut coded = brotli(&body, 5, 22);
    coded.push(0);
    assert_eq!(unbrotli(&coded, 10).1, Err(Stop::Refused));
    let wide = brotli(&bodies()[4], 5, 24);
    assert_eq!(unbrotli(&wide, 1000), (Vec::new(), Err(Stop::Refused)));
}

#[test]
fn zstd_refuses_a_window_that_is_too_large_and_what_needs_a_dictionary() {
    let body = &bodies()[4];
    assert_eq!(unzstd(&zstd(body, 3, 23), 1000), (Vec::new(), Err(Stop::Refused)));
    let mut encoder = zstd::Encoder::with_dictionary(Vec::new(), 3, body).unwrap();
    encoder.write_all(body).unwrap();
    assert_eq!(unzstd(&encoder.finish().unwrap(), 1000).1, Err(Stop::Refused));
    assert_eq!(unzstd(b"{\"usage\":{}}", 1000).1, Err(Stop::Refused));
    let skipped = [&0x184d_2a53_u32.to_le_bytes(), 5_u32.to_le_bytes().as_slice(), b"12345", &zstd(body, 1, 20)].concat();
    assert_eq!(unzstd(&skipped, 3), (body.clone(), Ok(())));
}

/// Flips bits and cuts, `FUZZ_INPUTS` times: whatever comes of it comes without a panic.
fn spoil(coded: &[u8], decode: fn(&[u8], usize) -> Outcome) {
    let mut numbers = Numbers(88_172_645_463_325_252);
    let mut refused = 0_u64;
    let inputs = std::env::var("FUZZ_INPUTS").ok().map_or(500, |count| count.parse().expect("FUZZ_INPUTS is a number"));
    for _ in 0..inputs {
        let mut spoilt = coded.to_vec();
        for _ in 0..=numbers.below(3) {
            let place = numbers.below(spoilt.len().min(600));
            spoilt[place] ^= 1 << numbers.below(8);
        }
        if numbers.below(2) == 0 {
            spoilt.truncate(numbers.below(spoilt.len()) + 1);
        }
        let (body, end) = decode(&spoilt, 500);
        refused += u64::from(end.is_err());
        assert!(body.len() <= 1 << 25);
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_spoilt_body_is_refused_or_read_for_another() {
    let text = &bodies()[4][..8000];
    let items = &bodies()[5][..8000];
    spoil(&brotli(text, 9, 18), unbrotli);
    spoil(&brotli(items, 11, 18), unbrotli);
    spoil(&zstd(text, 3, 18), unzstd);
    spoil(&zstd(items, 19, 18), unzstd);
}
