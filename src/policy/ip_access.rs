//! Which client addresses are let in.

use super::context::PolicyContext;
use super::{CompileEnv, Policy, Step};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding, Network, Problem};
use ahash::HashSet;
use http::StatusCode;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Which client addresses are let in. A denied network wins over an allowed one; with `allow`
/// given, whoever is in none of its networks is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpAccessConfig {
    /// Networks that are let in, such as `10.0.0.0/8` or `192.0.2.7/32`. Default: all.
    pub allow: Vec<Network>,
    /// Networks that are refused. Default: none.
    pub deny: Vec<Network>,
}

/// [`IpAccessConfig`], compiled.
#[derive(Debug)]
pub struct IpAccess {
    allow: PrefixSet,
    deny: PrefixSet,
}

/// The client's address is not let in.
pub const IP_DENIED: &str = "ip_denied";

impl Policy for IpAccess {
    const NAME: &'static str = "ip_access";
    type Config = IpAccessConfig;

    fn compile(config: &IpAccessConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        if config.allow.is_empty() && config.deny.is_empty() {
            let problem = Problem::new("neither `allow` nor `deny` names a network")
                .remedy("name one, or take the policy out with `ip_access: off`");
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        Ok(Self { allow: PrefixSet::new(&config.allow), deny: PrefixSet::new(&config.deny) })
    }

    fn on_request<'a>(&'a self, _: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let denied = self.deny.contains(cx.client);
        if !denied && (self.allow.is_empty() || self.allow.contains(cx.client)) {
            return Step::Continue;
        }
        let why = if denied { "denied by its network" } else { "in no allowed network" };
        Step::reject(
            Rejection::new(StatusCode::FORBIDDEN, IP_DENIED, "Your address is not allowed here").detail(why),
        )
    }
}

/// Networks by prefix length: one look-up for each length that occurs, whatever their number.
#[derive(Debug, Default)]
struct PrefixSet {
    v4: Vec<(u8, HashSet<u32>)>,
    v6: Vec<(u8, HashSet<u128>)>,
}

impl PrefixSet {
    fn new(networks: &[Network]) -> Self {
        let mut set = Self::default();
        for network in networks {
            let length = network.get().prefix_len();
            match network.get().network() {
                IpAddr::V4(address) => entry(&mut set.v4, length).insert(address.to_bits()),
                IpAddr::V6(address) => entry(&mut set.v6, length).insert(address.to_bits()),
            };
        }
        set
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.iter().any(|(length, nets)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                nets.contains(&(address.to_bits() & mask))
            }),
            IpAddr::V6(address) => self.v6.iter().any(|(length, nets)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                nets.contains(&(address.to_bits() & mask))
            }),
        }
    }
}

fn entry<T>(lengths: &mut Vec<(u8, HashSet<T>)>, length: u8) -> &mut HashSet<T> {
    let at = lengths.iter().position(|(known, _)| *known == length).unwrap_or_else(|| {
        lengths.push((length, HashSet::default()));
        lengths.len() - 1
    });
    &mut lengths[at].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decide(allow: &[&str], deny: &[&str], client: &str) -> bool {
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let config = IpAccessConfig { allow: networks(allow), deny: networks(deny) };
        let policy = IpAccess::compile(&config, &CompileEnv::default()).unwrap();
        let mut cx = PolicyContext::new();
        cx.client = client.parse().unwrap();
        let head = RequestHeader::build("GET", b"/", None).unwrap();
        matches!(policy.on_request(&head, &mut cx), Step::Continue)
    }

    #[test]
    fn deny_wins_and_allow_closes() {
        let cases: [(&[&str], &[&str], &str, bool); 8] = [
            (&[], &["192.0.2.0/24"], "192.0.2.9", false),
            (&[], &["192.0.2.0/24"], "192.0.3.9", true),
            (&["10.0.0.0/8"], &[], "10.9.9.9", true),
            (&["10.0.0.0/8"], &[], "11.0.0.1", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["0.0.0.0/0"], &[], "::1", false),
            (&["2001:db8::/32"], &[], "2001:db8::1", true),
            (&[], &["192.0.2.7"], "::ffff:192.0.2.7", false),
        ];
        for (allow, deny, client, expected) in cases {
            assert_eq!(decide(allow, deny, client), expected, "{allow:?} {deny:?} {client}");
        }
    }

    #[test]
    fn a_policy_that_says_nothing_is_a_mistake() {
        assert!(IpAccess::compile(&IpAccessConfig::default(), &CompileEnv::default()).is_err());
    }

    proptest! {
        #[test]
        fn the_set_agrees_with_each_network(bits in any::<u32>(), nets in proptest::collection::vec((any::<u32>(), 0u8..=32), 1..8)) {
            let networks: Vec<Network> = nets.iter().map(|(address, length)| {
                let net = ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(*address), *length).unwrap().trunc();
                net.to_string().parse().unwrap()
            }).collect();
            let address = IpAddr::from(std::net::Ipv4Addr::from(bits));
            prop_assert_eq!(PrefixSet::new(&networks).contains(address), networks.iter().any(|net| net.contains(address)));
        }
    }
}
