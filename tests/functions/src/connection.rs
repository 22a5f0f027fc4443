//! Serves connections, each on a thread of its own, and does what each call asks for.

use std::io::{self, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::answer;
use crate::environment::Environment;
use crate::hunger;
use crate::knobs::{Knobs, Tell};
use crate::request::{Body, Head};
use crate::script::{self, After};

/// How much of a body is kept to look for knobs; the rest is counted.
const KNOBS_LIMIT: usize = 1 << 20;

/// Takes connections from now on. `stop` ends the process.
pub(crate) fn accept(listener: UnixListener, environment: Environment, stop: Sender<()>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (environment, stop) = (environment.clone(), stop.clone());
            std::thread::spawn(move || {
                if let Err(error) = serve(stream, &environment, &stop) {
                    eprintln!("test-function: connection: {error}");
                }
            });
        }
    });
}

fn serve(mut stream: UnixStream, environment: &Environment, stop: &Sender<()>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(head) = Head::read(&mut reader)? {
        let body = head.body()?;
        let mut call = Call {
            environment,
            stop,
            head,
            body,
        };
        if call.run(&mut reader, &mut stream)? == After::Close {
            break;
        }
    }
    Ok(())
}

/// One call.
struct Call<'a> {
    environment: &'a Environment,
    stop: &'a Sender<()>,
    head: Head,
    body: Body,
}

impl Call<'_> {
    fn run(
        &mut self,
        reader: &mut BufReader<UnixStream>,
        stream: &mut UnixStream,
    ) -> io::Result<After> {
        let mut length = None;
        let early = self.early_knobs();
        let knobs = match early {
            Some(knobs) => knobs,
            None => {
                let (body, all) = self.body.read_all(reader, KNOBS_LIMIT)?;
                length = Some(all);
                Knobs::from_body(&body)
            }
        };
        eprintln!("BeginOfLogs");
        let (knobs, script) = match knobs.and_then(|knobs| Ok((knobs.script()?, knobs))) {
            Ok((script, knobs)) => (knobs, script),
            Err(error) => {
                eprintln!("test-function: {error}");
                return self.fail(reader, stream);
            }
        };
        if let Some(tell) = &knobs.tell
            && let Err(error) = hunger::tell(tell)
        {
            eprintln!("test-function: nobody to tell: {error}");
            return self.fail(reader, stream);
        }
        if let Err(error) = self.enter("begin", &knobs) {
            eprintln!("test-function: no ledger: {error}");
            return self.fail(reader, stream);
        }
        self.misbehave_before(&knobs);
        if let Some(script) = script {
            let after = script::run(&script, reader, &mut self.body, stream)?;
            eprintln!("EndOfLogs");
            // What is left of the input would be taken for the next call.
            return Ok(if self.body.is_done() {
                after
            } else {
                After::Close
            });
        }
        let length = match length {
            Some(length) => length,
            None => self.body.read_all(reader, 0)?.1,
        };

        let missing = answer::missing_headers(&knobs, &self.head);
        if !missing.is_empty() || !self.is_spawn_call() {
            eprintln!(
                "test-function: the call is not the expected one; missing headers: {missing:?}"
            );
            return self.fail(reader, stream);
        }
        let mut data = hunger::feed(&knobs);
        data.insert("bodyLength".to_owned(), length.to_string());
        if let Err(error) = self.enter("end", &knobs) {
            eprintln!("test-function: no ledger: {error}");
        }
        if self.attempt() <= knobs.fail_attempts {
            return self.fail(reader, stream);
        }
        stream.write_all(&answer::render(
            &knobs,
            &self.head,
            &self.environment.config,
            &data,
        ))?;
        eprintln!("EndOfLogs");
        self.misbehave_after(&knobs);
        Ok(After::Keep)
    }

    /// Knobs that are known before the body is read.
    fn early_knobs(&self) -> Option<Result<Knobs, String>> {
        let names = ["Test-Knobs", "Fn-Http-H-Test-Knobs"];
        match names.iter().find_map(|name| self.head.get(name)) {
            Some(text) => {
                let value =
                    serde_json::from_str(text).map_err(|error| format!("Test-Knobs: {error}"));
                Some(value.and_then(Knobs::from_value))
            }
            None => self.environment.knobs.clone().map(Ok),
        }
    }

    /// Enters a line about this execution in the ledger, if there is one.
    fn enter(&self, what: &str, knobs: &Knobs) -> io::Result<()> {
        if knobs.ledger.is_empty() {
            return Ok(());
        }
        let call = self.head.get("Fn-Call-Id").unwrap_or_default();
        hunger::tell(&Tell {
            to: knobs.ledger.clone(),
            text: format!("{what} {call} {}", self.attempt()),
        })
    }

    /// Which attempt this is, from 1.
    fn attempt(&self) -> u32 {
        let told = self.head.get("Fn-Attempt");
        told.and_then(|attempt| attempt.parse().ok()).unwrap_or(1)
    }

    fn misbehave_before(&self, knobs: &Knobs) {
        if knobs.is_debug {
            eprintln!("test-function: {:?}\ntest-function: {:?}", self.head, knobs);
        }
        std::thread::sleep(Duration::from_millis(knobs.sleep_time));
        if knobs.is_crash {
            std::process::abort();
        }
        if knobs.is_exit {
            std::process::exit(knobs.exit_code);
        }
    }

    fn misbehave_after(&self, knobs: &Knobs) {
        print!("{}", knobs.post_out_garbage);
        let _ = io::stdout().flush();
        eprint!("{}", knobs.post_err_garbage);
        std::thread::sleep(Duration::from_millis(knobs.post_sleep_time));
        if knobs.is_shutdown {
            let _ = self.stop.send(());
        }
    }

    fn is_spawn_call(&self) -> bool {
        let spawned_for = self.environment.config.get("FN_SPAWN_CALL_ID");
        !self.environment.only_spawn_call
            || spawned_for.map(String::as_str) == self.head.get("Fn-Call-Id")
    }

    /// Answers as a kit does when its handler failed.
    fn fail(
        &mut self,
        reader: &mut BufReader<UnixStream>,
        stream: &mut UnixStream,
    ) -> io::Result<After> {
        self.body.read_all(reader, 0)?;
        eprintln!("EndOfLogs");
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")?;
        Ok(After::Keep)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::*;

    /// Sends requests, and answers with all that comes back.
    fn wire(vars: &[(&str, &str)], requests: &[u8]) -> String {
        let listener = [("FN_LISTENER", "unix:/unused")];
        let vars = listener
            .iter()
            .chain(vars)
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::from_vars(vars).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let (stop, _stopped) = mpsc::channel();
        let serving = std::thread::spawn(move || serve(theirs, &environment, &stop));
        ours.write_all(requests).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        ours.read_to_end(&mut answers).unwrap();
        let _ = serving.join().unwrap();
        String::from_utf8_lossy(&answers).into_owned()
    }

    fn request(headers: &str, body: &str) -> String {
        format!(
            "POST /call HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn calls_on_one_connection() {
        let requests = [
            request("", r#"{"responseCode": 201}"#),
            request("", "not knobs"),
        ];
        let answers = wire(&[], requests.concat().as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);
        assert!(answers.contains("Fn-Http-Status: 201"));
        assert!(answers.contains(r#""bodyLength":"9""#));
    }

    #[test]
    fn misspelt_knobs_fail_the_call() {
        let answers = wire(&[], request("", r#"{"sleepTme": 1}"#).as_bytes());
        assert!(answers.starts_with("HTTP/1.1 502"));
    }

    #[test]
    fn a_header_or_the_environment_can_set_knobs() {
        let by_header = request("test-knobs: {\"wireStatus\": 504}\r\n", "body");
        assert!(wire(&[], by_header.as_bytes()).starts_with("HTTP/1.1 504"));
        let by_variable = [("TEST_KNOBS", r#"{"misbehave": "status999"}"#)];
        let answers = wire(
            &by_variable,
            [request("", "a"), request("", "b")].concat().as_bytes(),
        );
        assert_eq!(answers.matches("HTTP/1.1 999").count(), 2);
    }

    #[test]
    fn first_attempts_can_fail() {
        let requests = [1, 2, 3].map(|attempt| {
            request(
                &format!("Fn-Attempt: {attempt}\r\n"),
                r#"{"failAttempts": 2}"#,
            )
        });
        let answers = wire(&[], requests.concat().as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 502").count(), 2);
        assert!(answers.contains("HTTP/1.1 200"));
    }

    #[test]
    fn an_execution_is_entered_at_its_begin_and_its_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ledger = listener.local_addr().unwrap();
        let entries = std::thread::spawn(move || {
            [(), ()].map(|()| {
                let mut line = String::new();
                let (stream, _) = listener.accept().unwrap();
                std::io::BufRead::read_line(&mut BufReader::new(stream), &mut line).unwrap();
                line
            })
        });
        let knobs = format!(r#"{{"ledger": "{ledger}"}}"#);
        let call = request("Fn-Call-Id: c1\r\nFn-Attempt: 4\r\n", &knobs);
        assert!(wire(&[], call.as_bytes()).starts_with("HTTP/1.1 200"));
        assert_eq!(entries.join().unwrap(), ["begin c1 4\n", "end c1 4\n"]);
    }

    #[test]
    fn unread_input_ends_the_connection() {
        let early = "test-knobs: {\"misbehave\": \"answerAndClose\"}\r\n";
        let answers = wire(
            &[],
            [request(early, "input"), request("", "")]
                .concat()
                .as_bytes(),
        );
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 1);
    }

    #[test]
    fn calls_that_are_not_the_expected_one_fail() {
        let vars = [
            ("FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH", "1"),
            ("FN_SPAWN_CALL_ID", "c1"),
        ];
        let requests = [
            request("Fn-Call-Id: c1\r\n", ""),
            request("Fn-Call-Id: c2\r\n", ""),
        ];
        let answers = wire(&vars, requests.concat().as_bytes());
        assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 502"));
        let expecting = request("X-A: 1\r\n", r#"{"expectHeaders": {"X-A": ["2"]}}"#);
        assert!(wire(&[], expecting.as_bytes()).starts_with("HTTP/1.1 502"));
    }
}
