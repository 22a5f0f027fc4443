//! The network that tests of a cluster play in: hosts, cuts in one direction, and no remains.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hearth_tests::eventually;
use hearth_tests::netns::{Host, Network};

/// What a child of these tests is to be.
const ROLE: &str = "HEARTH_NETNS_CHILD";
const PORT: u16 = 7000;

/// Runs as the child of the tests below, in a host or outside.
#[test]
fn child() {
    match std::env::var(ROLE).as_deref() {
        Ok("talker") => talk(),
        Ok("victim") => be_killed(),
        _ => {}
    }
}

/// Says which datagrams come, and sends `TEXT` to `ADDRESS` for each line `ADDRESS TEXT`.
fn talk() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a port");
    let incoming = socket.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = incoming.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            say(&format!("{text} from {}", from.ip()));
        }
    });
    say("ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let (address, text) = line.split_once(' ').expect("an address and a text");
        let address: Ipv4Addr = address.parse().expect("an address");
        socket
            .send_to(text.as_bytes(), (address, PORT))
            .expect("sent");
    }
    // Who read the output is gone; the test harness would complain.
    std::process::exit(0);
}

/// Tells the parent a line.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // In one piece, and after whatever the test harness has begun to write.
    let _ = output.write_all(format!("\n{line}\n").as_bytes());
    let _ = output.flush();
}

/// Has a network with a process in it, and never ends.
fn be_killed() {
    let network = Network::new();
    let host = network.host("left");
    let mut sleeper = host.command("sleep").arg("600").spawn().expect("sleep");
    say(&format!("{} {}", host.namespace(), sleeper.id()));
    sleeper.wait().expect("an end");
}

fn start(mut command: Command, role: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command
        .args(["--exact", "netns::child", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let stdout = child.stdout.take().expect("a pipe");
    (child, BufReader::new(stdout).lines())
}

/// Somebody in a host who sends datagrams and tells which ones came.
struct Talker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    fn new(host: &Host) -> Self {
        let program = std::env::current_exe().expect("this program");
        let (mut child, output) = start(host.command(program), "talker");
        let input = child.stdin.take().expect("a pipe");
        let mut talker = Self {
            child,
            input,
            output,
        };
        while talker.line() != "ready" {}
        talker
    }

    fn send(&mut self, to: Ipv4Addr, text: &str) {
        writeln!(self.input, "{to} {text}").expect("sent");
    }

    fn line(&mut self) -> String {
        self.output
            .next()
            .expect("the talker lives")
            .expect("a line")
    }

    /// The next datagram that came.
    fn heard(&mut self) -> String {
        loop {
            let line = self.line();
            if line.contains(" from ") {
                return line;
            }
        }
    }
}

#[test]
fn links_are_cut_in_one_direction_and_heal() {
    let network = Network::new();
    let (one, two) = (network.host("one"), network.host("two"));
    let (a, b) = (one.address(), two.address());
    let (mut at_a, mut at_b) = (Talker::new(&one), Talker::new(&two));
    at_a.send(b, "before");
    assert_eq!(at_b.heard(), format!("before from {a}"));

    let cut = network.cut(a, b);
    at_a.send(b, "lost");
    at_b.send(a, "other-way");
    assert_eq!(at_a.heard(), format!("other-way from {b}"));
    cut.heal();
    at_a.send(b, "after");
    assert_eq!(at_b.heard(), format!("after from {a}"), "nothing else came");

    let outside = network.outside();
    let test = UdpSocket::bind((outside, PORT)).expect("a port");
    at_a.send(outside, "to the test");
    let mut buffer = [0; 64];
    let (length, from) = test.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..length], b"to the test");
    assert_eq!(from, SocketAddr::from((a, PORT)));
    let _cut = network.cut(outside, b);
    test.send_to(b"lost", (b, PORT)).expect("sent");
    test.send_to(b"to one", (a, PORT)).expect("sent");
    assert_eq!(at_a.heard(), format!("to one from {outside}"));
    at_a.send(b, "last");
    assert_eq!(at_b.heard(), format!("last from {a}"), "nothing else came");
}

#[test]
fn nothing_is_left_of_a_network() {
    let network = Network::new();
    let host = network.host("one");
    let name = Path::new("/run/netns").join(host.namespace());
    let mut talker = Talker::new(&host);
    assert!(name.exists());
    drop((network, host));
    assert!(!name.exists());
    let status = talker.child.wait().expect("an end");
    assert!(!status.success(), "it was ended: {status}");
}

#[tokio::test]
async fn a_killed_test_leaves_nothing_to_the_next() {
    let program = Command::new(std::env::current_exe().expect("this program"));
    let (mut victim, lines) = start(program, "victim");
    let line = lines
        .map(|line| line.expect("a line"))
        .find(|line| line.starts_with("hearth-"))
        .expect("a network");
    let (namespace, sleeper) = line.split_once(' ').expect("a name and a process");
    victim.kill().expect("killed");
    victim.wait().expect("an end");
    let namespace = Path::new("/run/netns").join(namespace);
    let sleeper = Path::new("/proc").join(sleeper);
    assert!(namespace.exists() && sleeper.exists());
    let _next = Network::new();
    assert!(!namespace.exists());
    eventually("the process is gone", async || {
        // Whoever inherited it may not have taken note of its end.
        let status = std::fs::read_to_string(sleeper.join("status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    })
    .await;
}
