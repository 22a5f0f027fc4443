//! A network of its own for a test: hosts with addresses, as network namespaces on one bridge,
//! whose links can be cut in one direction.
//!
//! It needs root, `ip`, `ss`, `nft` and `nsenter`. The bridge is in a namespace too, so that no rule of
//! the machine's firewall applies to it, and the machine has one leg in it: the test itself talks
//! to the hosts from [`Network::outside`]. Files and Unix sockets are shared as always, so that a
//! node in a host still reaches the container engine.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// The first host's number in its network's addresses.
const FIRST_HOST: u8 = 10;

/// A network. It is removed with its last host and its last cut, and so are the processes in it.
#[derive(Debug, Clone)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    number: u8,
    next_host: AtomicU8,
    /// Whoever holds it owns the number; it is free as soon as its owner is dead.
    _lock: UnixListener,
}

/// A host: a namespace with one interface and one address.
#[derive(Debug, Clone)]
pub struct Host {
    network: Network,
    namespace: String,
    address: Ipv4Addr,
}

/// A direction in which nothing passes until this is dropped.
#[derive(Debug)]
#[must_use = "it heals when it is dropped"]
pub struct Cut {
    network: Network,
    pair: String,
}

impl Network {
    /// A network without hosts. What tests that were killed left behind is removed first.
    ///
    /// # Panics
    /// It cannot be made.
    #[expect(clippy::new_without_default, reason = "it changes the machine")]
    pub fn new() -> Self {
        for number in leftovers() {
            if lock(number).is_ok() {
                remove(number);
            }
        }
        let (number, lock) = (0..=u8::MAX)
            .find_map(|number| Some((number, lock(number).ok()?)))
            .expect("a free network");
        // Dropped if what follows fails.
        let network = Self(Arc::new(Shared {
            number,
            next_host: AtomicU8::new(FIRST_HOST),
            _lock: lock,
        }));
        let (switch, link) = (switch(number), link(number));
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        ip(&[
            "link", "add", &link, "type", "veth", "peer", "name", "outside", "netns", &switch,
        ]);
        ip(&[
            "-n", &switch, "link", "set", "outside", "master", "br0", "up",
        ]);
        let outside = format!("{}/24", network.outside());
        ip(&["address", "add", &outside, "dev", &link]);
        ip(&["link", "set", &link, "up"]);
        network.nft(
            "table bridge links {
                set cut { type ipv4_addr . ipv4_addr; }
                chain forward {
                    type filter hook forward priority 0;
                    ip saddr . ip daddr @cut drop
                }
            }",
        );
        network
    }

    /// Adds a host; `name` must be short and unique in this network.
    ///
    /// # Panics
    /// It cannot be added.
    pub fn host(&self, name: &str) -> Host {
        let number = self.0.next_host.fetch_add(1, Ordering::Relaxed);
        assert!((FIRST_HOST..255).contains(&number), "too many hosts");
        let switch = switch(self.0.number);
        let host = Host {
            network: self.clone(),
            namespace: format!("{}{name}", prefix(self.0.number)),
            address: self.address(number),
        };
        let (namespace, port) = (host.namespace.as_str(), format!("port{number}"));
        ip(&["netns", "add", namespace]);
        ip(&[
            "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            namespace,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        let address = format!("{}/24", host.address);
        ip(&["-n", namespace, "address", "add", &address, "dev", "eth0"]);
        ip(&["-n", namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", namespace, "link", "set", "lo", "up"]);
        host
    }

    /// The address of the machine itself, and so of the test, in this network.
    pub fn outside(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Another address of the machine itself in this network, so that the ways to two servers on it
    /// can be cut apart; `number` is from 2 to 9, and each is taken once.
    ///
    /// # Panics
    /// It cannot be had.
    pub fn another_outside(&self, number: u8) -> Ipv4Addr {
        assert!((2..FIRST_HOST).contains(&number), "a number of a host");
        let address = self.address(number);
        let link = link(self.0.number);
        ip(&["address", "add", &format!("{address}/24"), "dev", &link]);
        address
    }

    /// From now on, nothing gets from one address to the other; the other direction is open, and
    /// neither side is told. Cutting the same direction twice is once.
    ///
    /// # Panics
    /// It cannot be cut.
    pub fn cut(&self, from: Ipv4Addr, to: Ipv4Addr) -> Cut {
        let pair = format!("{from} . {to}");
        self.nft(&format!("add element bridge links cut {{ {pair} }}"));
        Cut {
            network: self.clone(),
            pair,
        }
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.0.number, host)
    }

    fn nft(&self, rules: &str) {
        let mut nft = within(&switch(self.0.number), "nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped());
        let mut child = nft.spawn().expect("nft");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(rules.as_bytes()).expect("written");
        drop(input);
        let status = child.wait().expect("an end");
        assert!(status.success(), "nft refuses: {rules}");
    }
}

impl Host {
    /// The host's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A command that runs in this host, as a child that is the program itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        within(&self.namespace, program)
    }

    /// Ends all connections between this host and a peer at once. This host's processes are told by
    /// their system; the peer by a segment that is lost when the direction is cut.
    ///
    /// # Panics
    /// Without `ss`.
    pub fn reset_connections(&self, peer: Ipv4Addr) {
        let mut ss = self.command("ss");
        ss.args(["--kill", "--tcp", "dst", &peer.to_string()]);
        // It complains about connections that end meanwhile.
        let output = ss.output().expect("ss");
        assert!(output.status.code().is_some(), "ss was killed");
    }

    /// This host's ends of its established connections with a peer.
    ///
    /// # Panics
    /// Without `ss`.
    pub fn connections(&self, peer: Ipv4Addr) -> Vec<String> {
        let mut ss = self.command("ss");
        ss.args(["--no-header", "--tcp", "--numeric", "state", "established"]);
        ss.args(["dst", &peer.to_string()]);
        let output = ss.output().expect("ss");
        // Queues come first, then this end, then the other one.
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| Some(line.split_whitespace().nth(2)?.to_owned()))
            .collect()
    }

    /// The network it is in.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Cut {
    /// Opens the direction again.
    pub fn heal(self) {
        drop(self);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let heal = format!("delete element bridge links cut {{ {} }}", self.pair);
        self.network.nft(&heal);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        remove(self.number);
    }
}

fn prefix(number: u8) -> String {
    format!("hearth-{number}-")
}

/// The namespace with the bridge.
fn switch(number: u8) -> String {
    format!("{}-switch", prefix(number))
}

/// The machine's own interface in the network.
fn link(number: u8) -> String {
    format!("hearth{number}")
}

fn lock(number: u8) -> io::Result<UnixListener> {
    let name = format!("hearth-test-network-{number}");
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The names of the namespaces of all networks.
fn namespaces() -> Vec<String> {
    let Ok(names) = fs::read_dir(NAMES) else {
        return Vec::new();
    };
    names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("hearth-"))
        .collect()
}

/// The numbers of the networks that are there, in use or not.
fn leftovers() -> Vec<u8> {
    let number = |name: &String| name.split('-').nth(1)?.parse().ok();
    let mut numbers: Vec<u8> = namespaces().iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Removes a network and the processes in it. It also runs while a test panics, and so reports
/// nothing: what is left is found by the next one.
fn remove(number: u8) {
    let prefix = prefix(number);
    for name in namespaces() {
        if !name.starts_with(&prefix) {
            continue;
        }
        let pids = Command::new("ip").args(["netns", "pids", &name]).output();
        for pid in pids
            .iter()
            .flat_map(|pids| pids.stdout.split(u8::is_ascii_whitespace))
            .filter_map(|pid| Pid::from_raw(str::from_utf8(pid).ok()?.parse().ok()?))
        {
            // It may have just ended.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = Command::new("ip").args(["netns", "delete", &name]).output();
    }
    let _ = Command::new("ip")
        .args(["link", "delete", &link(number)])
        .output();
}

/// A command in a namespace. Unlike `ip netns exec` it changes nothing but the network: what it
/// mounts is seen by the container engine.
fn within(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={NAMES}/{namespace}"))
        .arg("--")
        .arg(program);
    command
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
