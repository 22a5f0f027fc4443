//! Runs the examples as the platform does: as programs with a socket.

#![allow(clippy::unwrap_used, reason = "a test ends this way")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

struct Program {
    child: Option<Child>,
    directory: tempfile::TempDir,
}

impl Program {
    fn start(path: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = format!("unix:{}", directory.path().join("lsnr.sock").display());
        let mut command = Command::new(path);
        command
            .env_clear()
            .envs([("FN_FORMAT", "http-stream"), ("FN_LISTENER", &listener)]);
        command.env("EVENT_INTERVAL_MS", "20");
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut this = Self {
            child: Some(child),
            directory,
        };
        let begin = Instant::now();
        while !this.directory.path().join("lsnr.sock").exists() {
            assert!(begin.elapsed() < LIMIT && this.child().try_wait().unwrap().is_none());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        this
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// Sends a call, and leaves the answer to be read.
    fn send(&self, headers: &str, body: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.directory.path().join("lsnr.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        let head =
            format!("POST /call HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        BufReader::new(stream)
    }

    fn call(&self, headers: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send(headers, body)
            .read_to_string(&mut answer)
            .unwrap();
        answer
    }

    fn terminate(&mut self) {
        let id = i32::try_from(self.child().id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    }

    fn wait(mut self) -> Output {
        let begin = Instant::now();
        while self.child().try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < LIMIT, "the program does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn hello_greets_and_logs() {
    let mut program = Program::start(env!("CARGO_BIN_EXE_hello"));
    assert!(
        program
            .call("", r#"{"name": "Ada"}"#)
            .ends_with(r#"{"message":"Hello Ada"}"#)
    );
    assert!(
        program
            .call("", "")
            .ends_with(r#"{"message":"Hello World"}"#)
    );
    assert!(program.call("", "not JSON").starts_with("HTTP/1.1 502"));
    assert!(
        program
            .call("Fn-Call-Id: c7\r\n", "")
            .starts_with("HTTP/1.1 200")
    );
    program.terminate();
    let output = program.wait();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("call c7 greets World")
    );
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("the handler failed: JSON: ")
    );
}

#[test]
fn without_the_platforms_variables_a_function_says_so_and_fails() {
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[], "no FN_FORMAT"),
        (&[("FN_FORMAT", "http-stream")], "no FN_LISTENER"),
        (
            &[("FN_FORMAT", "json"), ("FN_LISTENER", "unix:/tmp/s")],
            "FN_FORMAT is \"json\"",
        ),
    ];
    for (variables, message) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
        let output = command
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.contains(message) && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

#[test]
fn a_streaming_answer_survives_sigterm() {
    let mut program = Program::start(env!("CARGO_BIN_EXE_streaming"));
    let mut answer = program.send("", "5");
    let mut begin = String::new();
    while !begin.contains("event 1 of 5") {
        assert_ne!(answer.read_line(&mut begin).unwrap(), 0);
    }
    assert!(begin.contains("content-type: text/event-stream"));
    program.terminate();
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("event 5 of 5") && rest.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_trigger_sets_its_own_status_and_headers() {
    let program = Program::start(env!("CARGO_BIN_EXE_http-trigger"));
    let call = |method: &str| {
        let head = format!(
            "Fn-Intent: httprequest\r\nFn-Http-Method: {method}\r\nFn-Http-Request-Url: http://h/t/a/b\r\nFn-Http-H-X-A: 1\r\n"
        );
        program.call(&head, "body")
    };
    let made = call("POST");
    assert!(made.starts_with("HTTP/1.1 200"));
    for part in [
        "fn-http-status: 201",
        "fn-http-h-set-cookie: seen=yes",
        "fn-http-h-location: /things/1",
    ] {
        assert!(made.contains(part), "{made}");
    }
    assert!(made.ends_with(
        r#"{"method":"POST","url":"http://h/t/a/b","headers":{"x-a":"1"},"body":"body"}"#
    ));
    let refused = call("DELETE");
    assert!(
        refused.contains("fn-http-status: 405") && refused.contains("fn-http-h-allow: GET, POST")
    );
    assert!(program.call("", "").contains("through a trigger"));
}

#[test]
fn limits_sleeps_fails_and_ends_as_it_is_told() {
    let program = Program::start(env!("CARGO_BIN_EXE_limits"));
    let over = "Fn-Deadline: 2001-01-01T00:00:00Z\r\n";
    assert!(
        program
            .call(over, r#"{"sleep_ms": 60000}"#)
            .starts_with("HTTP/1.1 504")
    );
    assert!(
        program
            .call("", r#"{"fail": "no"}"#)
            .starts_with("HTTP/1.1 502")
    );
    assert!(
        program
            .call("", r#"{"slep_ms": 1}"#)
            .starts_with("HTTP/1.1 502")
    );
    assert!(
        program
            .call("", r#"{"allocate_mib": 3, "busy_ms": 1}"#)
            .contains("used 3 MiB")
    );
    assert!(
        program
            .call("", r#"{"answer_kib": 2}"#)
            .contains("content-length: 2048")
    );
    assert_eq!(program.call("", r#"{"exit": 3}"#), "");
    assert_eq!(program.wait().status.code(), Some(3));
}

#[test]
fn echo_gives_back_body_and_type() {
    let program = Program::start(env!("CARGO_BIN_EXE_echo"));
    let answer = program.call("Content-Type: a/b\r\n", "the same");
    assert!(answer.contains("content-type: a/b\r\n") && answer.ends_with("\r\n\r\nthe same"));
}
