//! The contract of spec/03 3.1, over real Unix sockets: the platform's side is played by a client
//! that writes bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends this way")]

mod client;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};

use client::{Connection, Function, trigger};
use hearth_fdk::http::StatusCode;
use hearth_fdk::{Body, Context, Error, Response};
use proptest::prelude::*;
use tokio::sync::{Notify, Semaphore};

async fn echo(_ctx: Context, body: Body) -> Result<Response, Error> {
    Ok(Response::bytes(body.bytes().await?))
}

#[test]
fn an_answer_is_200_and_the_connection_is_kept() {
    let function = Function::start(|| echo);
    let mut connection = function.connect();
    for body in ["one", "", "three"] {
        let answer = connection.call("", body.as_bytes());
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, body.as_bytes())
        );
        assert_eq!(
            answer.header("fn-fdk-version"),
            Some(&b"hearth-fdk-rust/0.1.0"[..])
        );
        assert_eq!(answer.header("fn-http-status"), None);
    }
}

#[test]
fn an_error_or_a_panic_is_502_and_the_next_call_works() {
    let function = Function::start(|| {
        async |_: Context, body: Body| match body.text().await.unwrap().as_str() {
            "fail" => Err("no"),
            "panic" => panic!("asked to"),
            "status" => Ok(Response::empty().status(StatusCode::CONTINUE)),
            _ => Ok(Response::text("fine")),
        }
    });
    let mut connection = function.connect();
    for body in ["fail", "panic", "status"] {
        let answer = connection.call("", body.as_bytes());
        assert_eq!((answer.status, answer.body.len()), (502, 0), "{body}");
        assert!(answer.header("fn-fdk-version").is_some());
        assert_eq!(connection.call("", b"well").body, b"fine");
    }
}

#[test]
fn a_handler_that_is_late_is_dropped_and_answered_with_504() {
    struct Guard(mpsc::Sender<()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (dropped, was_dropped) = mpsc::channel();
    let function = Function::start(move || {
        move |_: Context, body: Body| {
            let guard = Guard(dropped.clone());
            async move {
                if body.text().await? == "hang" {
                    std::future::pending::<()>().await;
                }
                drop(guard);
                Ok::<_, Error>("in time")
            }
        }
    });
    let mut connection = function.connect();
    let answer = connection.call("Fn-Deadline: 2001-01-01T00:00:00Z\r\n", b"hang");
    assert_eq!(answer.status, 504);
    was_dropped.recv_timeout(client::LIMIT).unwrap();
    let answer = connection.call("Fn-Deadline: 9999-01-01T00:00:00Z\r\n", b"go");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"in time"[..])
    );
}

#[test]
fn input_that_comes_too_late_is_not_the_next_calls() {
    let function = Function::start(|| echo);
    let mut connection = function.connect();
    let late = "POST /call HTTP/1.1\r\nHost: localhost\r\nFn-Deadline: 2001-01-01T00:00:00Z\r\nContent-Length: 4\r\n\r\n";
    connection.send(late.as_bytes());
    assert_eq!(connection.answer().status, 504);
    // Whatever comes now belongs to the call that is over: the connection is closed.
    assert!(connection.is_at_end());
    assert_eq!(function.connect().call("", b"mine").body, b"mine");
}

#[test]
fn input_that_nobody_read_does_not_cost_the_connection() {
    let function = Function::start(|| async |_: Context, _: Body| Ok::<_, Infallible>("ignored"));
    let mut connection = function.connect();
    for _ in 0..3 {
        let head = "POST /call HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.send(head.as_bytes());
        for _ in 0..100 {
            connection.send(format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000)).as_bytes());
        }
        connection.send(b"0\r\n\r\n");
        assert_eq!(connection.answer().body, b"ignored");
    }
}

#[test]
fn bodies_stream_both_ways_at_once() {
    let function = Function::start(|| {
        async |_: Context, mut body: Body| {
            Ok::<_, Infallible>(Response::streaming(|mut writer| async move {
                while let Some(chunk) = body.chunk().await? {
                    writer.write(chunk).await?;
                }
                Ok::<_, Error>(())
            }))
        }
    });
    let mut connection = function.connect();
    connection
        .send(b"POST /call HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.head();
    for piece in ["first", "second", "third"] {
        connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
        assert_eq!(connection.chunk(), piece.as_bytes());
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.chunk(), b"");
    connection.send(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(connection.answer().body, b"ok");
}

#[test]
fn a_body_can_be_handed_through() {
    let function = Function::start(|| {
        async |_: Context, body: Body| Ok::<_, Infallible>(Response::body(body))
    });
    let mut connection = function.connect();
    let body = vec![7; 1 << 20];
    for _ in 0..2 {
        assert_eq!(connection.call("", &body).body, body);
    }
}

#[test]
fn a_stream_that_breaks_never_looks_whole() {
    let function = Function::start(|| {
        async |_: Context, mut body: Body| {
            Ok::<_, Infallible>(Response::streaming(|mut writer| async move {
                writer.write("some").await?;
                assert_ne!(body.chunk().await?.as_deref(), Some(&b"panic"[..]));
                Err::<(), _>(Error::NotText)
            }))
        }
    });
    for how in ["5\r\npanic\r\n", "4\r\nfail\r\n"] {
        let mut connection = function.connect();
        let head = "POST /call HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.send(head.as_bytes());
        assert_eq!(connection.head().status, 200);
        assert_eq!(connection.chunk(), b"some");
        connection.send(how.as_bytes());
        assert_eq!(connection.rest(), b"", "{how}");
    }
    let mut connection = function.connect();
    connection.send(&client::request("", b"fail"));
    assert!(!connection.rest().ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_trigger_gets_status_and_headers_behind_the_prefix() {
    let function = Function::start(|| {
        async |ctx: Context, _: Body| {
            assert_eq!((ctx.method(), ctx.header("x-in")), ("PUT", Some("1")));
            assert_eq!(ctx.request_url(), Some("http://h/t/a/s?q=1"));
            Response::json(&["x"])?
                .status(StatusCode::ACCEPTED)
                .header("x-out", "2")
        }
    });
    let answer = function
        .connect()
        .call(&trigger("PUT", "Fn-Http-H-X-In: 1\r\n"), b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("fn-http-status"), Some(&b"202"[..]));
    assert_eq!(answer.header("fn-http-h-x-out"), Some(&b"2"[..]));
    assert_eq!(
        answer.header("content-type"),
        Some(&b"application/json"[..])
    );
    assert_eq!(answer.header("x-out"), None);
}

#[test]
fn one_call_at_a_time() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let function = Function::start(move || {
        let running = Cell::new(false);
        async move |_: Context, _: Body| {
            assert!(!running.replace(true), "two calls at once");
            gate.acquire().await.unwrap().forget();
            running.set(false);
            Ok::<_, Infallible>("")
        }
    });
    let mut connections = [function.connect(), function.connect(), function.connect()];
    for connection in &mut connections {
        connection.send(&client::request("", b""));
    }
    // A round trip on another connection: the function has had the chance to begin them all.
    let mut other = function.connect();
    other.send(b"garbage\r\n\r\n");
    assert!(other.rest().starts_with(b"HTTP/1.1 400"));
    go.add_permits(3);
    for connection in &mut connections {
        assert_eq!(connection.answer().status, 200);
    }
}

#[test]
fn stopping_finishes_the_running_call_and_takes_no_other() {
    let (begun, has_begun) = mpsc::channel();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let mut function = Function::start(move || {
        async move |_: Context, _: Body| {
            let _ = begun.send(());
            gate.notified().await;
            Ok::<_, Infallible>("finished")
        }
    });
    let mut idle = function.connect();
    let mut busy = function.connect();
    busy.send(&client::request("", b""));
    has_begun.recv_timeout(client::LIMIT).unwrap();
    function.stop();
    assert!(idle.is_at_end());
    let refused = UnixStream::connect(function.path()).map(drop);
    assert!(refused.is_err());
    go.notify_one();
    assert_eq!(busy.answer().body, b"finished");
    assert!(busy.is_at_end());
    function.join();
    assert_eq!(
        std::fs::read_dir(function.path().parent().unwrap())
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn garbage_costs_its_connection_only() {
    let function = Function::start(|| echo);
    for garbage in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"POST /call HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut connection = function.connect();
        connection.send(garbage);
        assert!(connection.rest().starts_with(b"HTTP/1.1 400"));
    }
    assert_eq!(function.connect().call("", b"fine").body, b"fine");
}

#[test]
fn a_client_may_send_more_headers_than_servers_commonly_take() {
    let function = Function::start(|| echo);
    let headers: String = (0..150).map(|n| format!("x-{n}: {n}\r\n")).collect();
    assert_eq!(function.connect().call(&headers, b"many").body, b"many");
}

#[test]
fn a_connection_that_says_nothing_is_in_nobodys_way() {
    let function = Function::start(|| echo);
    let _silent: Vec<Connection> = (0..5).map(|_| function.connect()).collect();
    let mut slow = function.connect();
    slow.send(b"POST /call HT");
    assert_eq!(function.connect().call("", b"fine").body, b"fine");
}

#[test]
fn any_header_value_passes_both_ways() {
    let function = Function::start(|| {
        async |ctx: Context, _: Body| {
            let value = ctx.headers()["x-any"].clone();
            Response::empty().header("x-any", value)
        }
    });
    let connection = RefCell::new(function.connect());
    // What RFC 9110 allows in a value; white space at its ends is not part of it.
    let byte = prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8];
    let value = proptest::collection::vec(byte, 0..300);
    let trimmed = value.prop_map(|value| value.trim_ascii().to_vec());
    proptest!(|(value in trimmed, is_trigger: bool)| {
        let (head, name) = if is_trigger {
            (trigger("GET", "Fn-Http-H-X-Any: "), "fn-http-h-x-any")
        } else {
            ("X-Any: ".to_owned(), "x-any")
        };
        let head = [head.as_bytes(), &value, b"\r\n"].concat();
        let mut connection = connection.borrow_mut();
        connection.send(&client::request(head, b""));
        let answer = connection.answer();
        prop_assert_eq!(answer.status, 200);
        prop_assert_eq!(answer.header(name), Some(&value[..]));
    });
}

#[test]
fn a_peer_that_goes_away_in_a_call_is_forgotten() {
    let function = Function::start(|| echo);
    let mut gone = function.connect();
    gone.send(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\npart");
    drop(gone);
    let mut connection = function.connect();
    assert_eq!(connection.call("", b"next").body, b"next");
}
