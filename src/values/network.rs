use super::{Problem, text_value};
use ipnet::IpNet;
use std::{fmt, net::IpAddr, str::FromStr};

/// A network such as `10.0.0.0/8` or `2001:db8::/32`, or a single address. An IPv4-mapped IPv6
/// address counts as the IPv4 address that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// True if the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The network as the `ipnet` crate has it.
    pub const fn get(&self) -> IpNet {
        self.0
    }
}

impl FromStr for Network {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let shown: String = text.chars().take(50).collect();
        let net: IpNet = text.parse().map_err(|_| {
            Problem::new(format!("`{shown}` is not a network"))
                .remedy("write it as `10.0.0.0/8`, `2001:db8::/32`, or a single address")
        })?;
        if net.trunc() != net {
            return Err(Problem::new(format!("`{shown}` has bits set to the right of its prefix"))
                .remedy(format!("write `{}` for the network, or the address alone", net.trunc())));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_value!(
    Network,
    "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$",
    "a network such as `10.0.0.0/8`, or an address",
    ["10.0.0.0/8"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("0.0.0.0/0", "::1", false),
        ];
        for (network, address, inside) in cases {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        }
    }

    #[test]
    fn what_is_not_a_network_is_refused() {
        for text in ["", "10.0.0.1/8", "10.0.0.0/33", "300.0.0.0/8", "example.com", "10.0.0.0/"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
