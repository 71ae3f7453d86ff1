//! Cases that cannot apply on an edge: by name, with the reason, all in this place.

/// One reason, and the cases that it keeps from running.
type Inapplicable = (&'static str, &'static [&'static str]);

/// On workerd. Its own HTTP server stands between the caller and the Worker; on Cloudflare it is Cloudflare's.
const WORKERD: &[Inapplicable] = &[
    (
        "workerd tells of a caller who has left at the second write after it: a silent backend gives none",
        &["usage_endings::a_caller_that_leaves_a_silent_backend_is_noticed"],
    ),
    (
        "workerd resolves dot segments before the Worker sees the path",
        &["identity::a_path_with_dot_segments_is_refused", "identity::a_dot_segment_cannot_leave_a_route_or_enter_another"],
    ),
    (
        "workerd itself answers malformed requests, with 500 and the end of the connection, or takes them by its own rules",
        &[
            "calls::a_tunnel_is_refused",
            "smuggling::two_lengths_smuggle_nothing",
            "smuggling::odd_lengths_smuggle_nothing",
            "smuggling::odd_transfer_codings_smuggle_nothing",
            "smuggling::whitespace_before_a_colon_hides_no_header",
            "smuggling::an_absolute_target_is_routed_by_its_path",
            "smuggling::a_length_and_chunks_together_smuggle_nothing",
            "smuggling::a_bare_line_feed_or_nul_in_a_header_adds_none",
        ],
    ),
    ("workerd's HTTP client takes an interim reply for the final one", &["calls::interim_replies_do_not_disturb_the_final_one"]),
    (
        "workerd's HTTP client reads no trailers: what is left of them spoils the connection's next reply",
        &["calls::a_chunked_reply_with_trailers_arrives_whole", "usage_replies::headers_pass_and_trailers_do_no_harm"],
    ),
    ("workerd sends no empty Content-Type", &["usage_replies::bytes_that_are_no_json_and_no_event_pass_unchanged"]),
    (
        "workerd does not answer Expect: 100-continue",
        &[
            "calls::a_request_that_expects_100_continue_is_served",
            "usage_requests::a_caller_that_waits_to_be_asked_for_its_body_is_asked_unless_it_is_refused",
        ],
    ),
    ("to Workers a header is text in UTF-8, and other bytes are replaced", &["headers::a_customers_name_is_opaque_bytes"]),
    (
        "Workers decode gzip and br that they read, and encode anew what they send in its place: the bytes are others, and all usage is read",
        &[
            "usage_coded::a_body_that_is_not_in_its_coding_says_nothing_of_usage",
            "usage_coded::a_coding_that_is_not_read_says_nothing_of_usage",
            "usage_coded::a_compressed_reply_is_charged_what_it_says_and_passes_as_it_came",
            "usage_coded::a_compressed_stream_is_charged_what_it_says_and_passes_as_it_came",
        ],
    ),
    (
        "workerd's process is the launcher's: how it leaves is its own, and neither its memory nor its limits are the launcher's",
        &[
            "crashes::told_to_leave_it_ends_live_calls_and_keeps_their_charges",
            "usage_crashes::told_to_leave_it_lets_streams_end_and_charges_their_usage",
            "unwritable::a_ledger_that_cannot_grow_forwards_nothing_until_it_can",
            "usage_memory::fifty_megabytes_need_four_mebibytes_more_than_fifty_kilobytes",
        ],
    ),
    (
        "an object lives in one process: two on one storage are no deployment",
        &[
            "two_gateways::what_one_gateway_left_behind_another_delivers",
            "usage_crashes::a_call_that_was_given_up_as_lost_and_ends_after_all_is_charged_its_usage",
        ],
    ),
];

/// On Spin and its runner.
const SPIN: &[Inapplicable] = &[(
    "the ledger is a database beside the gateway: there are no objects",
    &[
        "lost_answers::a_call_that_was_refused_for_want_of_an_answer_costs_nothing",
        "lost_answers::a_replay_that_is_given_up_takes_back_no_charge",
        "lost_answers::a_replay_whose_answer_is_lost_is_forwarded",
        "lost_answers::a_settle_whose_answer_is_lost_charges_once",
        "lost_answers::an_admission_whose_answer_is_lost_is_told_again",
        "lost_answers::two_callers_of_one_id_who_both_ask_again_are_not_both_admitted",
        "objects::a_call_asks_its_customers_object_twice",
        "objects::a_call_in_a_name_that_nobody_knows_makes_no_ledger",
        "objects::an_object_may_be_evicted_between_admission_and_settle",
        "objects::an_order_under_way_when_the_process_dies_is_posted_again_by_itself",
        "objects::an_outcome_that_the_hook_tells_while_it_is_asked_finds_its_order",
        "objects::what_a_killed_process_had_not_told_is_told_by_itself",
    ],
)];

fn of(edge: &str) -> &'static [Inapplicable] {
    match edge {
        "workerd" => WORKERD,
        "spin" => SPIN,
        _ => &[],
    }
}

/// Why a case cannot apply on an edge.
pub(crate) fn reason(edge: &str, case: &str) -> Option<&'static str> {
    of(edge).iter().find(|(_, cases)| cases.contains(&case)).map(|(reason, _)| *reason)
}

/// The names that are listed for an edge and that no case has.
pub(crate) fn unknown(edge: &str, is_known: impl Fn(&str) -> bool) -> Vec<&'static str> {
    of(edge).iter().flat_map(|(_, cases)| *cases).copied().filter(|case| !is_known(case)).collect()
}
