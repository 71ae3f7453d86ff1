//! What a usage-metered call is charged by what its bodies say (contract section 1, items; section 3, *Usage*).

use crate::support::Suite;
use crate::support::buyer::units;
use crate::support::metered::{Charged, JSON, json_of, reply_of, used};
use crate::support::script::{Script, Step};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_call_is_charged_what_its_reply_says_wherever_that_stands,
    the_first_path_that_is_present_counts,
    of_a_repeated_key_the_last_counts,
    values_of_arrays_on_the_way_are_added_up,
    every_billing_item_of_the_marketplace_is_charged,
    characters_are_scalar_values_and_bytes_are_utf8,
    items_are_summed_exactly_and_rounded_up_once,
    a_whole_success_without_readable_usage_is_charged_its_hold,
    usage_that_cannot_be_is_no_usage,
    a_failure_is_charged_the_usage_it_reports_or_nothing,
    a_request_that_cannot_be_read_costs_its_hold_at_least,
    a_call_that_used_nothing_is_released,
    a_reply_without_a_body_says_nothing_of_usage,
    a_product_of_the_requests_size_is_charged_it_whatever_the_reply,
    a_reply_whose_headers_never_come_costs_nothing,
    a_text_that_looks_like_usage_is_none,
}

async fn a_call_is_charged_what_its_reply_says_wherever_that_stands(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let deep = format!("{}1{}", "[".repeat(400), "]".repeat(400));
    let bodies = [
        r#"{"usage":{"prompt_tokens":20,"completion_tokens":7},"choices":[]}"#.to_owned(),
        r#"{"choices":[{"message":{"content":"}"}}],"usage":{"completion_tokens":7,"total_tokens":27,"prompt_tokens":20}}"#
            .to_owned(),
        "\u{feff}{ \"usage\" :\n\t{ \"prompt_tokens\"\r\n: 20 , \"completion_tokens\" : 7.0 } }\n\n".to_owned(),
        r#"{"us\u0061ge":{"prompt\u005ftokens":2e1,"completion_tokens":"7"}}"#.to_owned(),
        format!(r#"{{"deep":{deep},"usage":{{"prompt_tokens":20,"completion_tokens":7}}}}"#),
        r#"{"usage":{"input_tokens":20,"output_tokens":7,"output_tokens_details":{"reasoning_tokens":5}}}"#.to_owned(),
        r#"{"usage":{"prompt_tokens":20,"prompt_tokens_details":{"prompt_tokens":9},"completion_tokens":7}}"#.to_owned(),
    ];
    for body in &bodies {
        let charge = Charged::settled("41");
        let reply = buyer.expect_charge(&buyer.ask(&json!({}), &json_of(body)), &charge).await;
        assert_eq!((reply.text(), reply.header("tollgate-charge").as_str()), (body.clone(), "41"));
        let chunked = Script::chunked().header("content-type", "application/json; charset=utf-8");
        let pieces = chunked.then(suite.backend.keep(body, 3));
        let reply = buyer.expect_charge(&buyer.ask(&json!({}), &pieces), &charge).await;
        assert_eq!(reply.text(), *body);
    }
}

async fn the_first_path_that_is_present_counts(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for (usage, charge) in [
        (r#"{"input_tokens":100,"prompt_tokens":1,"output_tokens":100,"completion_tokens":2}"#, "7"),
        (r#"{"input_tokens":100,"prompt_tokens":null,"output_tokens":100,"completion_tokens":2}"#, "106"),
        (r#"{"input_tokens":100,"completion_tokens":2}"#, "106"),
        (r#"{"prompt_tokens":5}"#, "5"),
        (r#"{"output_tokens":5}"#, "15"),
    ] {
        let call = buyer.ask(&json!({}), &json_of(&format!(r#"{{"usage":{usage}}}"#)));
        buyer.expect_charge(&call, &Charged::settled(charge)).await;
    }
}

async fn of_a_repeated_key_the_last_counts(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for (body, charge) in [
        (r#"{"usage":{"prompt_tokens":9,"prompt_tokens":4,"completion_tokens":1}}"#, "7"),
        (r#"{"usage":{"prompt_tokens":9,"completion_tokens":9},"usage":{"prompt_tokens":4,"completion_tokens":1}}"#, "7"),
    ] {
        buyer.expect_charge(&buyer.ask(&json!({}), &json_of(body)), &Charged::settled(charge)).await;
    }
}

async fn values_of_arrays_on_the_way_are_added_up(suite: Arc<Suite>) {
    let buyer = suite.buyer("speech", "1000000").await;
    for (transcripts, charge) in [
        (r#"[{"content_duration_in_milliseconds":1500},{"content_duration_in_milliseconds":2250}]"#, "3.75"),
        (r#"[[{"content_duration_in_milliseconds":1}],{"other":1},{"content_duration_in_milliseconds":1}]"#, "0.002"),
        (r#"{"content_duration_in_milliseconds":61000}"#, "61"),
    ] {
        let call = buyer.ask(&json!({}), &json_of(&format!(r#"{{"transcripts":{transcripts},"file_url":"x"}}"#)));
        buyer.expect_charge(&call, &Charged::settled(charge)).await;
    }
}

async fn every_billing_item_of_the_marketplace_is_charged(suite: Arc<Suite>) {
    let text = "äöü 文字 🦀";
    for (product, reply, charge) in [
        ("chat", r#"{"data":"x","usage":{"completion_tokens":217,"prompt_tokens":31,"total_tokens":248}}"#, "682"),
        ("chat", r#"{"usage":{"input_tokens":31,"output_tokens":217}}"#, "682"),
        ("images", r#"{"data":[{"url":"1"},{"url":"2"}],"usage":{"image_count":2}}"#, "2"),
        ("video", r#"{"usage":{"video_duration":5.2}}"#, "13"),
        ("speech", r#"{"transcripts":[{"content_duration_in_milliseconds":3834}]}"#, "3.834"),
        ("bytes", r#"{"audio":"..."}"#, "18"),
        ("characters", r#"{"audio":"..."}"#, "8"),
        ("absorbing", r#"{"usage":{"total_tokens":248}}"#, "248"),
    ] {
        let buyer = suite.buyer(product, "1000000").await;
        let call = buyer.ask(&json!({ "model": "m", "input": text }), &json_of(reply));
        buyer.expect_charge(&call, &Charged::settled(charge)).await;
        let unit = buyer.balance().await["unit"].clone();
        let named = ["token", "image", "second", "byte", "character"].iter().any(|name| unit == *name);
        assert!(named, "{product} is counted in {unit}");
    }
}

async fn characters_are_scalar_values_and_bytes_are_utf8(suite: Arc<Suite>) {
    let (bytes, characters) = (suite.buyer("bytes", "1000").await, suite.buyer("characters", "1000").await);
    for (input, in_bytes, in_characters) in [
        (r#""abc""#, "3", "3"),
        (r#""\u00e9\n\"""#, "4", "3"),
        (r#""\ud83e\udd80""#, "4", "1"),
        (r#""é🦀""#, "6", "2"),
        (r#"["ab","c\t"]"#, "4", "4"),
    ] {
        for (buyer, charge) in [(&bytes, in_bytes), (&characters, in_characters)] {
            let call = buyer.post(format!(r#"{{"input":{input},"voice":"v"}}"#)).script(&Script::text("RIFF"));
            let reply = buyer.expect_charge(&call, &Charged::settled(charge)).await;
            assert_eq!(reply.header("tollgate-charge"), charge, "{input}");
        }
    }
}

async fn items_are_summed_exactly_and_rounded_up_once(suite: Arc<Suite>) {
    let buyer = suite.buyer("mixed", "1000").await;
    // A character weighs 0.00001, a unit of the reply 0.000003.
    for (characters, total, charge) in
        [(3, "10", "0.0001"), (7, "10", "0.0001"), (7, "11", "0.0002"), (1, "0", "0.0001"), (10_000, "1e6", "3.1")]
    {
        let reply = json_of(&format!(r#"{{"usage":{{"total":{total}}}}}"#));
        let call = buyer.ask(&json!({ "input": "x".repeat(characters) }), &reply);
        buyer.expect_charge(&call, &Charged::settled(charge)).await;
    }
    let cached = suite.buyer("cached", "100000").await;
    let usage =
        r#"{"usage":{"input_tokens":4,"cache_creation_input_tokens":2051,"cache_read_input_tokens":1537,"output_tokens":15}}"#;
    cached.expect_charge(&cached.ask(&json!({}), &json_of(usage)), &Charged::settled("2796.45")).await;
}

async fn a_whole_success_without_readable_usage_is_charged_its_hold(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    for script in [
        json_of(r#"{"choices":[]}"#),
        json_of("{"),
        json_of(""),
        json_of("not JSON"),
        json_of("[1,2,3]"),
        reply_of("text/plain", r#"{"usage":{"total_tokens":5}}"#),
        Script::text(r#"{"usage":{"total_tokens":5}}"#),
        Script::chunked().header("content-type", JSON),
        Script::chunked().header("content-type", JSON).then(Step::Text("{}".into())),
        reply_of("text/event-stream", "data: {}\n\ndata: [DONE]\n\n"),
        json_of(r#"{"usage":null}"#),
        json_of(r#"{"usage":{"total_tokens":null}}"#),
    ] {
        let call = buyer.ask(&json!({ "max_tokens": 3 }), &script);
        let reply = buyer.expect_charge(&call, &Charged::hold("30")).await;
        assert_eq!(reply.status, 200);
    }
}

async fn usage_that_cannot_be_is_no_usage(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    for value in [
        "-1",
        "-0.0001",
        "\"many\"",
        "\"\"",
        "true",
        "{}",
        "[]",
        "900000000001",
        "1e30",
        "1e999999999",
        "99999999999999999999999999999999",
        "\"-7\"",
        "\"0x10\"",
        "\"NaN\"",
        "\"Infinity\"",
    ] {
        for status in [200, 500] {
            let script = Script::status(status).header("content-type", JSON);
            let script = script.then(Step::Text(format!(r#"{{"usage":{{"total_tokens":{value}}}}}"#)));
            let call = buyer.ask(&json!({}), &script);
            let expected = if status == 200 { Charged::hold("10") } else { Charged::released() };
            buyer.expect_charge(&call, &expected).await;
        }
    }
    // A number that JSON does not know ends the document, and is no usage either.
    for value in ["NaN", "0x10", "+5", ".5", "5.", "Infinity"] {
        let call = buyer.ask(&json!({}), &json_of(&format!(r#"{{"usage":{{"total_tokens":{value}}}}}"#)));
        buyer.expect_charge(&call, &Charged::hold("10")).await;
    }
    buyer.expect_balanced().await;
}

async fn a_failure_is_charged_the_usage_it_reports_or_nothing(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for status in [301, 400, 404, 429, 500, 503] {
        let failed = |body: &str| Script::status(status).header("content-type", JSON).then(Step::Text(body.to_owned()));
        let silent = buyer.ask(&json!({}), &failed(r#"{"error":{"message":"no"}}"#));
        let reply = buyer.expect_charge(&silent, &Charged::released()).await;
        assert_eq!((reply.status, reply.header("tollgate-charge").as_str()), (status, "0"));
        let body = r#"{"error":{"message":"filtered"},"usage":{"prompt_tokens":11,"completion_tokens":0}}"#;
        let reply = buyer.expect_charge(&buyer.ask(&json!({}), &failed(body)), &Charged::settled("11")).await;
        assert_eq!((reply.status, reply.header("tollgate-charge").as_str()), (status, "11"));
    }
    // What the request's size would cost was not served.
    let buyer = suite.buyer("characters", "1000").await;
    let call = buyer.ask(&json!({ "input": "twelve chars" }), &Script::status(500));
    buyer.expect_charge(&call, &Charged::released()).await;
}

async fn a_request_that_cannot_be_read_costs_its_hold_at_least(suite: Arc<Suite>) {
    let buyer = suite.buyer("mixed", "1000000").await;
    let reply = |total: &str| json_of(&format!(r#"{{"usage":{{"total":{total}}}}}"#));
    let utf_16: Vec<u8> = "\u{feff}{\"input\":\"xx\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [
        &b"{\"input\":\"xx\",}"[..],
        b"{\"input\":\"xx\"",
        b"{\"input\":\"xx\"}{\"input\":\"x\"}",
        b"[{\"input\":\"xx\"},{\"input\":\"x\"}]",
        b"input=xx",
        b"input=xx\n",
        b"\x1f\x8b\x08\x00",
        &utf_16,
    ] {
        let call = buyer.post(body).script(&reply("10"));
        call.send().await.assert_ok();
        let record = buyer.call_in_state(&call.request_id(), "settled").await;
        assert_eq!((&record["charge"], &record["usage_missing"]), (&record["hold"], &json!(true)), "{record}");
        let call = buyer.post(body).script(&reply("1e11"));
        call.send().await.assert_ok();
        let record = buyer.call_in_state(&call.request_id(), "settled").await;
        assert!(units(&record["charge"]) >= 3_000_000_000 && record["usage_missing"] == true, "{record}");
        buyer.grant("300000").await;
    }
    // One object is read, whatever stands around it; where there is no body, it says nothing.
    let body = b"\xef\xbb\xbf {\"input\":\"xx\"} \n";
    buyer.expect_charge(&buyer.post(body).script(&reply("1000")), &Charged::settled("0.0031")).await;
    buyer.expect_charge(&buyer.post("").script(&reply("1000")), &Charged::settled("0.003")).await;
}

async fn a_call_that_used_nothing_is_released(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "100").await;
    for script in [
        used(0, 0),
        json_of(r#"{"usage":{"prompt_tokens":0}}"#),
        json_of(r#"{"usage":{"prompt_tokens":"0","completion_tokens":-0.0}}"#),
        reply_of("text/event-stream", "data: {\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\n\n"),
    ] {
        let call = buyer.ask(&json!({}), &script);
        buyer.expect_charge(&call, &Charged::released()).await;
        buyer.expect_untouched().await;
        // A released id is as new.
        let again = buyer.ask(&json!({}), &used(1, 0)).id(&call.request_id());
        buyer.expect_charge(&again, &Charged::settled("1")).await;
        let back = buyer.refund(&call.request_id(), &json!({ "refund_id": "all", "reason": "a case" })).await;
        assert!(matches!(back.status, 200 | 201), "{}", back.text());
    }
}

async fn a_reply_without_a_body_says_nothing_of_usage(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    // Successes; they are complete and readable usage is not there.
    for call in [
        buyer.ask(&json!({}), &Script::status(204)),
        buyer.ask(&json!({}), &Script::status(200)),
        buyer.call().method("HEAD").script(&json_of(r#"{"usage":{"total_tokens":3}}"#)),
    ] {
        let reply = buyer.expect_charge(&call, &Charged::hold("10")).await;
        assert!(reply.body.is_empty());
        assert_eq!(reply.header("tollgate-charge"), "10");
    }
    for status in [304, 500] {
        let call = buyer.ask(&json!({}), &Script::status(status));
        buyer.expect_charge(&call, &Charged::released()).await;
    }
    let absent = buyer.call().method("HEAD").script(&Script::status(404));
    buyer.expect_charge(&absent, &Charged::released()).await;
}

async fn a_product_of_the_requests_size_is_charged_it_whatever_the_reply(suite: Arc<Suite>) {
    let buyer = suite.buyer("characters", "1000").await;
    let body = json!({ "input": "twelve chars" });
    for script in [
        json_of(r#"{"usage":{"characters":1}}"#),
        json_of("not JSON"),
        Script::status(204),
        Script::chunked().header("content-type", "audio/wav").then(Step::Fill(300_000)),
    ] {
        buyer.expect_charge(&buyer.ask(&body, &script), &Charged::settled("12")).await;
    }
    // Without what is metered there is no usage.
    buyer.grant("100000").await;
    let call = buyer.ask(&json!({ "max_tokens": 5, "text": "x" }), &json_of("{}"));
    let charged = buyer.expect_charge(&call, &Charged::hold("21.75")).await;
    assert_eq!(charged.status, 200, "15, and a quarter of 27 bytes");
}

async fn a_reply_whose_headers_never_come_costs_nothing(suite: Arc<Suite>) {
    let buyer = suite.buyer("hasty", "1000").await;
    for (step, status, code) in
        [(Step::Cut, 502, "backend_unreachable"), (Step::Reset, 502, "backend_unreachable"), (Step::Hang, 504, "backend_timeout")]
    {
        let call = buyer.ask(&json!({}), &Script::status(200).first(step));
        call.send().await.problem(status, code);
        assert_eq!(buyer.charged(&call).await, Charged::released());
    }
    buyer.expect_untouched().await;
}

async fn a_text_that_looks_like_usage_is_none(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    for body in [
        r#"{"choices":[{"message":{"content":"\"usage\":{\"total_tokens\":7}"}}]}"#,
        r#"{"choices":[{"usage":{"total_tokens":7}}]}"#,
        r#"{"data":{"usage":{"total_tokens":7}}}"#,
        r#"{"usage.total_tokens":7}"#,
        r#"{"Usage":{"Total_Tokens":7}}"#,
        r#""usage""#,
    ] {
        buyer.expect_charge(&buyer.ask(&json!({}), &json_of(body)), &Charged::hold("10")).await;
    }
}
