//! The runner from outside: real components, real sockets, real signals.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Runner, backend, command, header, manifest};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn the_component_gets_its_variables_files_and_databases() {
    let runner = Runner::probe(&["--variable", "greeting=good day"]);
    assert_eq!(runner.get("/variable", "").body, "good day, probe");
    assert!(runner.get("/undeclared", "").body.contains("Undefined"));
    assert!(runner.get("/file", "").body.starts_with("spin_manifest_version"));
    assert!(runner.get("/write-file", "").body.contains("PermissionDenied"));
    let sync = runner.get("/sync-sql", "").body;
    assert!(sync.contains("Integer(42)") && sync.contains("AccessDenied"), "{sync}");
    let asynchronous = runner.get("/async-sql", "").body;
    assert!(asynchronous.contains("Integer(6)") && asynchronous.contains("no such table: missing"), "{asynchronous}");
}

#[test]
fn a_hop_by_hop_header_in_a_reply_is_forbidden() {
    assert!(Runner::probe(&[]).get("/forbidden", "").body.contains("Forbidden"));
}

#[test]
fn a_trap_fails_its_own_request_without_a_word_of_the_inside() {
    let runner = Runner::probe(&[]);
    let reply = runner.get("/trap", "");
    let problem = r#"{"type":"urn:tollgate:problem:internal","title":"The gateway failed","status":500,"detail":"The gateway failed.","code":"internal","request_id":null}"#;
    assert_eq!((reply.status, reply.body.as_str()), (500, problem));
    assert_eq!(runner.get("/variable", "").status, 200);
}

#[test]
fn a_trap_in_the_middle_of_a_reply_cuts_it() {
    let reply = Runner::probe(&[]).get("/cut", "");
    assert_eq!((reply.body.as_str(), reply.complete), ("first", false));
}

#[test]
fn the_guest_learns_that_its_caller_has_left_and_runs_on() {
    let runner = Runner::probe(&[]);
    let mut wire = runner.connect();
    wire.send("GET /endless HTTP/1.1\r\nhost: runner\r\n\r\n");
    assert!(wire.head().starts_with("http/1.1 200"));
    drop(wire);
    runner.wait_for_count("SELECT count(*) FROM seen WHERE what = 'left'", 1);
}

#[test]
fn a_request_without_a_usable_host_is_refused() {
    let runner = Runner::probe(&[]);
    for request in ["GET /variable HTTP/1.1\r\n\r\n", "GET http://a/variable HTTP/1.1\r\nhost: b\r\n\r\n"] {
        let mut wire = runner.connect();
        wire.send(request);
        let reply = wire.reply();
        assert_eq!((reply.status, reply.body.contains(r#""code":"invalid""#)), (400, true), "{request}");
    }
}

#[test]
fn only_allowed_hosts_are_reached() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    let backend = backend(move |_, mut wire| {
        counted.fetch_add(1, Ordering::SeqCst);
        while !wire.head().is_empty() {
            wire.send(OK);
        }
    });
    let url = format!("x-url: http://{backend}/\r\n");
    let runner = Runner::probe(&["--variable", "host=https://*.example.com"]);
    assert!(runner.get("/fetch", &url).body.contains("HttpRequestDenied"));
    assert_eq!(reached.load(Ordering::SeqCst), 0);
    assert_eq!(Runner::probe(&[]).get("/fetch", &url).body, "ok");
    assert_eq!(reached.load(Ordering::SeqCst), 1);
}

#[test]
fn failures_to_reach_a_backend_are_told_apart() {
    let runner = Runner::probe(&[]);
    assert!(runner.get("/fetch", "x-url: http://127.0.0.1:1/\r\n").body.contains("ConnectionRefused"));
    let silent = backend(|_, mut wire| while !wire.head().is_empty() {});
    let reply = runner.get("/fetch", &format!("x-url: http://{silent}/\r\nx-first-byte-ms: 50\r\n"));
    assert!(reply.body.contains("ConnectionReadTimeout"), "{reply:?}");
    let closing = backend(|_, mut wire| _ = wire.head());
    let reply = runner.get("/fetch", &format!("x-url: http://{closing}/\r\n"));
    assert!(reply.body.contains("ConnectionTerminated"), "{reply:?}");
}

#[test]
fn connections_to_a_backend_are_reused_across_instances() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let backend = backend(move |_, mut wire| {
        counted.fetch_add(1, Ordering::SeqCst);
        while !wire.head().is_empty() {
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        }
    });
    let runner = Runner::probe(&["--max-instance-reuse-count", "1"]);
    for _ in 0..5 {
        assert_eq!(runner.get("/fetch", &format!("x-url: http://{backend}/\r\n")).body, "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_backend_that_closes_after_each_reply_sees_each_answered_call_once() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let backend = backend(move |_, mut wire| {
        if !wire.head().is_empty() {
            counted.fetch_add(1, Ordering::SeqCst);
            wire.send(OK);
        }
    });
    let runner = Runner::forward(backend);
    // A call may meet a connection in the very instant of its close, and then fails; it must not be sent twice.
    let answered = (0..50).filter(|_| runner.get("/", "").body == "ok").count();
    assert_eq!(requests.load(Ordering::SeqCst), answered);
    assert!(answered > 1, "a closed connection was used again and again");
}

#[test]
fn a_request_that_the_backend_may_have_seen_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    // The first request of a connection is answered, the second is read and then dropped.
    let backend = backend(move |_, mut wire| {
        wire.head();
        wire.send(OK);
        if !wire.head().is_empty() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let runner = Runner::forward(backend);
    assert_eq!(runner.get("/", "").status, 200);
    assert_eq!(runner.get("/", "").status, 500);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[test]
fn a_reply_that_the_backend_cuts_is_cut_for_the_caller() {
    let with_length = backend(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    });
    let chunked = backend(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    });
    for backend in [with_length, chunked] {
        let reply = Runner::forward(backend).get("/", "");
        assert_eq!((reply.status, reply.body.as_str(), reply.complete), (200, "half", false));
    }
}

#[test]
fn bodies_pass_both_ways_unchanged() {
    let backend = backend(|_, mut wire| {
        let head = wire.head();
        let length = header(&head, "content-length").unwrap().parse().unwrap();
        let body = String::from_utf8(wire.bytes(length)).unwrap();
        wire.send(&format!("HTTP/1.1 201 Created\r\nconnection: x-hop\r\nx-end: e\r\ncontent-length: {length}\r\n\r\n{body}"));
    });
    let runner = Runner::forward(backend);
    let body = "0123456789abcdef".repeat(64 * 1024);
    let mut wire = runner.connect();
    wire.send(&format!("POST /a?b=c HTTP/1.1\r\nhost: runner\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let reply = wire.reply();
    assert_eq!((reply.status, reply.complete, reply.body == body), (201, true, true));
    assert_eq!((header(&reply.head, "x-end"), header(&reply.head, "connection")), (Some("e"), None));
}

#[test]
fn sigterm_lets_live_calls_and_tasks_end_and_closes_idle_connections() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let backend = backend(move |_, mut wire| {
        wire.head();
        held.lock().unwrap().recv().unwrap();
        wire.send(OK);
    });
    let mut runner = Runner::probe(&[]);
    let mut idle = runner.connect();
    idle.send("GET /after HTTP/1.1\r\nhost: runner\r\n\r\n");
    assert_eq!(idle.reply().body, "later");
    let mut live = runner.connect();
    live.send(&format!("GET /fetch HTTP/1.1\r\nhost: runner\r\nx-url: http://{backend}/\r\n\r\n"));

    runner.terminate();
    assert!(idle.is_closed());
    assert!(!runner.has_exited());
    release.send(()).unwrap();
    let reply = live.reply();
    assert_eq!((reply.body.as_str(), reply.complete), ("ok", true));
    assert_eq!(runner.wait_for_exit().code(), Some(0));
    assert_eq!(runner.count("SELECT count(*) FROM seen WHERE what = 'after'"), 1, "a task of the guest was cut");
}

#[test]
fn sigterm_lets_a_call_end_whose_caller_has_left_while_its_reply_is_still_read() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let backend = backend(move |_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst");
        held.lock().unwrap().recv().unwrap();
        wire.send("later");
    });
    let mut runner = Runner::probe(&[]);
    assert_eq!(runner.get("/drain", &format!("x-url: http://{backend}/\r\n")).body, "going");
    runner.terminate();
    // Longer than instances have for what is no call.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(!runner.has_exited());
    release.send(()).unwrap();
    assert_eq!(runner.wait_for_exit().code(), Some(0));
    assert_eq!(runner.count("SELECT count(*) FROM seen WHERE what = 'drained'"), 1);
}

#[test]
fn mistakes_end_the_runner_before_it_listens() {
    let state = tempfile::tempdir().unwrap();
    let run = |options: &[&str]| {
        let output = command(&manifest("host/probe"), state.path()).args(options).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["--bogus"]).0, Some(2));
    let (code, message) = run(&["--variable", "unknown=secret-value"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("unknown") && !message.contains("secret-value"), "{message}");
    assert_eq!(run(&["--variable", "host=nonsense"]).0, Some(1));
}
