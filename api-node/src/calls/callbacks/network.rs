//! Which addresses callbacks may reach. A callback is a request that a stranger makes this node send:
//! it must not reach what only this machine or its link can reach, the metadata services of clouds
//! above all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::str::FromStr;

/// An address and the length of the prefix that its network shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

/// A text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a network")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| NoNetwork)?,
            None => longest,
        };
        if prefix > longest {
            return Err(NoNetwork);
        }
        Ok(Self { address, prefix })
    }
}

impl Network {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

/// Whether a callback may reach `address`.
pub(super) fn may_reach(address: IpAddr, allowed: &[Network]) -> bool {
    let address = address.to_canonical();
    let is_allowed = allowed.iter().any(|network| network.contains(address));
    is_allowed || !(is_refused(address) || is_own(address))
}

/// Whether it is an address of this machine: from there it would be reached by itself. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    // What cannot be reached at all is refused by the system.
    from.is_ok_and(|from| from.ip() == address)
}

/// This machine, its link, and addresses that are nobody's. Private networks are not among them:
/// they are where a cluster's own services live.
fn is_refused(address: IpAddr) -> bool {
    /// Metadata services that are not link-local: Alibaba's, and Amazon's over IPv6.
    const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0
                || v4 == METADATA_V4
        }
        IpAddr::V6(v6) => {
            let embedded = embedded_v4(v6).is_some_and(|v4| is_refused(IpAddr::V4(v4)));
            embedded
                || v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6 == METADATA_V6
                // Translators of a site (64:ff9b:1::/48) put the address anywhere.
                || v6.segments()[..3] == [0x64, 0xff9b, 1]
        }
    }
}

/// The address of the old kind that a translator (NAT64, 6to4) would send this on to.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => Some(v4(g, h)),
        (0x2002, _) => Some(v4(b, c)),
        (0, 0) if [c, d, e, f] == [0; 4] => Some(v4(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<Network> = allowed
            .iter()
            .map(|network| network.parse().expect("a network"))
            .collect();
        may_reach(address.parse().expect("an address"), &allowed)
    }

    #[test]
    fn neither_this_machine_nor_its_link_is_reached_in_any_spelling() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1::8.8.8.8",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
        ] {
            assert!(!reaches(address, &[]), "{address}");
        }
        for address in [
            "10.255.255.254",
            "192.168.255.254",
            "8.8.8.8",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(reaches(address, &[]), "{address}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
        // Whatever address it has in its network, if it is in one.
        let outwards = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        if outwards.connect("192.0.2.1:9").is_ok() {
            let own = outwards.local_addr().expect("an address").ip();
            assert!(!may_reach(own, &[]), "{own}");
        }
    }

    #[test]
    fn what_is_allowed_is_reached_and_nothing_beside_it() {
        assert!(reaches("127.0.0.1", &["127.0.0.0/8"]));
        assert!(reaches("::ffff:127.0.0.1", &["127.0.0.1"]));
        assert!(!reaches("127.0.0.2", &["127.0.0.1"]));
        assert!(!reaches("169.254.169.254", &["127.0.0.0/8", "::/1"]));
        assert!(reaches("169.254.169.254", &["0.0.0.0/0"]));
    }
}
