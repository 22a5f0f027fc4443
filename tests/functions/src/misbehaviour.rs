//! Misbehaviours by name: each is a short script.

use crate::script::Step;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";

/// What the names of misbehaviours begin with that leave the request's body alone. It makes a
/// difference when the knobs came in a header or in the environment: else the body was read for them.
const LEAVE_INPUT: [&str; 7] = ["answer", "never", "read", "close", "crash", "exit", "hold"];

/// The script of a misbehaviour. `size` is how much of it; each has its own default.
pub(crate) fn script(name: &str, size: Option<u64>) -> Result<Vec<Step>, String> {
    let ok = |headers: &str, body: &str| text(&format!("{OK}{headers}\r\n{body}"));
    let hi = || ok("Content-Length: 2\r\n", "hi");
    let many = |text: &str, default: u64| Step::Repeat {
        text: text.to_owned(),
        times: size.unwrap_or(default),
    };
    let header = |line: &str| vec![ok(&format!("{line}\r\nContent-Length: 2\r\n"), "hi")];

    let steps = match name {
        // Ends in the middle.
        "closeWithoutAnswer" => vec![Step::Close],
        "crashWithoutAnswer" => vec![Step::Crash],
        "exitWithoutAnswer" => vec![Step::Exit(0)],
        "crashInHead" => vec![text("HTTP/1.1 200 OK\r\nContent-"), Step::Crash],
        "crashInBody" => vec![ok("Content-Length: 100\r\n", "part"), Step::Crash],
        "exitInBody" => vec![ok("Content-Length: 100\r\n", "part"), Step::Exit(0)],
        "closeInBody" => vec![ok("Content-Length: 100\r\n", "part"), Step::Close],
        "closeInChunk" => vec![
            ok("Transfer-Encoding: chunked\r\n", "64\r\npart"),
            Step::Close,
        ],
        "closeBetweenChunks" => vec![
            ok("Transfer-Encoding: chunked\r\n", "4\r\npart\r\n"),
            Step::Close,
        ],
        "holdInBody" => vec![ok("Content-Length: 100\r\n", "part"), Step::Hold],
        "holdWithoutAnswer" => vec![Step::Hold],
        "exitAfterAnswer" => vec![hi(), Step::Exit(0)],

        // Not the HTTP that was agreed on.
        "notHttp" => vec![text("this is not HTTP\r\n\r\n"), Step::Close],
        "binary" => vec![many("\0\u{1}\u{2}", 1000), Step::Close],
        "http09" => vec![text("hi"), Step::Close],
        "http10" => vec![text("HTTP/1.0 200 OK\r\n\r\nhi"), Step::Close],
        "badStatusLine" => vec![text("HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nhi")],
        "statusZero" => vec![text("HTTP/1.1 000 Zero\r\nContent-Length: 2\r\n\r\nhi")],
        "status999" => vec![text("HTTP/1.1 999 Many\r\nContent-Length: 2\r\n\r\nhi")],
        "status204WithBody" => vec![text(
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi",
        )],
        "status304" => vec![text("HTTP/1.1 304 Not Modified\r\n\r\n")],
        "informational" => vec![
            text("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
            hi(),
        ],
        "informationalOnly" => vec![text("HTTP/1.1 100 Continue\r\n\r\n"), Step::Hold],
        "informationalFlood" => vec![many("HTTP/1.1 100 Continue\r\n\r\n", u64::MAX)],
        "switchingProtocols" => vec![
            text("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhi"),
            Step::Hold,
        ],
        "doubleLength" => header("Content-Length: 3"),
        "bothFramings" => vec![ok(
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            "2\r\nhi\r\n0\r\n\r\n",
        )],
        "negativeLength" => vec![ok("Content-Length: -1\r\n", "hi")],
        "hugeLength" => vec![ok("Content-Length: 99999999999999999999\r\n", "hi")],
        "badChunkSize" => vec![ok(
            "Transfer-Encoding: chunked\r\n",
            "zz\r\nhi\r\n0\r\n\r\n",
        )],
        "hugeChunkSize" => vec![ok(
            "Transfer-Encoding: chunked\r\n",
            "ffffffffffffffffff\r\nhi\r\n",
        )],
        "unknownEncoding" => vec![ok("Transfer-Encoding: rot13\r\n", "uv"), Step::Close],
        "trailers" => vec![ok(
            "Transfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n",
            "2\r\nhi\r\n0\r\nX-Trailer: late\r\n\r\n",
        )],
        "untilClose" => vec![ok("", "hi"), Step::Close],
        "bareLf" => vec![text(
            "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 2\n\nhi",
        )],

        // More than was asked for.
        "extraBytes" => vec![hi(), text("and more")],
        "extraAnswer" => vec![hi(), ok("Content-Length: 4\r\n", "EVIL")],
        "answerTwiceSlowly" => vec![
            hi(),
            Step::SleepMs(size.unwrap_or(200)),
            ok("Content-Length: 4\r\n", "EVIL"),
        ],
        "garbageOnStdout" => vec![
            Step::Stdout("garbage ".repeat(10_000)),
            Step::Stderr("\0\u{fffd}\r\n".repeat(10_000)),
            hi(),
        ],

        // Headers.
        "hugeHeader" => vec![
            text(&format!("{OK}X-Huge: ")),
            many("x", 1 << 20),
            text("\r\nContent-Length: 2\r\n\r\nhi"),
        ],
        "hugeHeaderName" => vec![
            text(OK),
            many("x", 1 << 20),
            text(": v\r\nContent-Length: 2\r\n\r\nhi"),
        ],
        "endlessHeader" => vec![text(&format!("{OK}X-Endless: ")), many("x", u64::MAX)],
        "manyHeaders" => vec![
            text(OK),
            many("X-Many: v\r\n", 1000),
            text("Content-Length: 2\r\n\r\nhi"),
        ],
        "endlessHeaders" => vec![text(OK), many("X-Endless: v\r\n", u64::MAX)],
        "keepAliveHeader" => header("Keep-Alive: timeout=5"),
        "connectionClose" => vec![
            ok("Connection: close\r\nContent-Length: 2\r\n", "hi"),
            Step::Close,
        ],
        "connectionCloseButOpen" => header("Connection: close"),
        "connectionNames" => header("Connection: X-Secret\r\nX-Secret: s"),
        "hopByHop" => header(
            "Proxy-Connection: x\r\nProxy-Authenticate: x\r\nProxy-Authorization: x\r\nTe: x\r\nUpgrade: x\r\nTrailer: x",
        ),
        "emptyHeaderName" => header(": v"),
        "spaceInHeaderName" => header("X Space: v"),
        "spaceBeforeColon" => header("X-Space : v"),
        "foldedHeader" => header("X-Folded: one\r\n two"),
        "nulInHeader" => header("X-Nul: a\0b"),
        "carriageReturnInHeader" => header("X-Return: a\rb"),
        "bytesInHeader" => vec![
            text(&format!("{OK}X-Bytes: ")),
            Step::Hex(all_bytes()?),
            text("\r\nContent-Length: 2\r\n\r\nhi"),
        ],
        "noHeaders" => vec![text("HTTP/1.1 200 OK\r\n\r\n"), Step::Close],
        "noContentType" => vec![text("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")],
        "triggerInjection" => header(
            "Fn-Http-H-: none\r\nFn-Http-H-Content-Length: 99\r\nFn-Http-H-Transfer-Encoding: chunked\r\nFn-Http-H-Connection: close\r\nFn-Http-Status: 99",
        ),

        // Bodies.
        "emptyBody" => vec![ok("Content-Length: 0\r\n", "")],
        "hugeBody" => {
            let length = size.unwrap_or(1 << 30);
            vec![
                ok(&format!("Content-Length: {length}\r\n"), ""),
                many("x", 1 << 30),
            ]
        }
        "hugeChunkedBody" => vec![
            ok("Transfer-Encoding: chunked\r\n", ""),
            Step::Loop {
                steps: vec![Step::Chunk("x".repeat(1 << 16))],
                times: size.unwrap_or(1 << 30) >> 16,
            },
            Step::Chunk(String::new()),
        ],
        "endlessBody" => vec![
            ok("Transfer-Encoding: chunked\r\n", ""),
            Step::Loop {
                steps: vec![Step::Chunk("x".repeat(1 << 16))],
                times: u64::MAX,
            },
        ],
        "slowBody" => vec![
            ok("Transfer-Encoding: chunked\r\n", ""),
            Step::Loop {
                steps: vec![Step::Chunk("drop\n".to_owned()), Step::SleepMs(100)],
                times: size.unwrap_or(10),
            },
            Step::Chunk(String::new()),
        ],
        "slowHead" => vec![
            text("HTTP/1.1 200 OK\r\n"),
            Step::Loop {
                steps: vec![text("X-Slow: v\r\n"), Step::SleepMs(100)],
                times: size.unwrap_or(10),
            },
            text("Content-Length: 2\r\n\r\nhi"),
        ],
        "events" => vec![
            text(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            Step::Loop {
                steps: vec![
                    Step::Chunk("data: event\n\n".to_owned()),
                    Step::SleepMs(100),
                ],
                times: size.unwrap_or(10),
            },
            Step::Chunk(String::new()),
        ],

        // Input; these make sense with knobs that are not in the body.
        "answerBeforeInput" => vec![hi(), Step::ReadBody],
        "answerWithoutInput" => vec![hi(), Step::Hold],
        "answerAndClose" => vec![hi(), Step::Close],
        "neverRead" => vec![Step::SleepMs(size.unwrap_or(u64::MAX))],
        "readSomeAndClose" => vec![Step::ReadBytes(size.unwrap_or(10)), Step::Close],
        "readSomeAndCrash" => vec![Step::ReadBytes(size.unwrap_or(10)), Step::Crash],
        "closeWrite" => vec![Step::CloseWrite, Step::Hold],

        _ => return Err(format!("knobs: there is no misbehaviour {name}")),
    };
    if LEAVE_INPUT.iter().any(|prefix| name.starts_with(prefix)) {
        return Ok(steps);
    }
    Ok(std::iter::once(Step::ReadBody).chain(steps).collect())
}

fn text(text: &str) -> Step {
    Step::Text(text.to_owned())
}

/// Every byte that a header's value may have.
fn all_bytes() -> Result<crate::script::Bytes, String> {
    let allowed = (0x20..=0x7e_u8).chain(0x80..=0xff);
    let digits: Vec<String> = allowed.map(|byte| format!("{byte:02x}")).collect();
    digits.concat().try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_names_are_the_known_ones() {
        let readme = include_str!("../README.md");
        let section = readme
            .split("## Misbehaviours")
            .nth(1)
            .unwrap()
            .split("## Scripts")
            .next()
            .unwrap();
        let table: String = section
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        let documented: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
        for name in &documented {
            script(name, Some(1)).unwrap();
            assert!(!script(name, None).unwrap().is_empty(), "{name}");
        }
        let source = include_str!("misbehaviour.rs")
            .split("#[cfg(test)]")
            .next()
            .unwrap();
        let known = source.lines().filter_map(|line| {
            line.trim()
                .strip_prefix('"')?
                .split_once("\" => ")
                .map(|(name, _)| name)
        });
        for name in known {
            assert!(documented.contains(&name), "{name} is not in README.md");
        }
    }

    #[test]
    fn input_is_read_first_by_those_that_are_not_about_it() {
        assert_eq!(script("notHttp", None).unwrap()[0], Step::ReadBody);
        assert_ne!(
            script("answerWithoutInput", None).unwrap()[0],
            Step::ReadBody
        );
    }
}
