//! The addresses of one backend's name: asked of DNS again and again in the background, used in turn.
//!
//! `pingora-load-balancing` keeps them and takes turns. Which backend is asked is policy and not its business: its
//! weighting isn't smooth, and it takes two backends at one address for one.
//! An address that takes no connection is left out until its name is asked for again, as long as another is there: a
//! name may have one for IPv6 where nobody listens, or one of a machine that is gone. Never connects.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend as Address, Backends, LoadBalancer};
use tokio::sync::Mutex;

/// How often the names of backends are asked of DNS again.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(15);
/// A name that isn't answered by then counts as not found.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// More addresses than this of one name aren't tried in one selection.
const ADDRESSES_TRIED: usize = 16;

/// What DNS said of one name.
pub struct Addresses {
    balancer: LoadBalancer<RoundRobin>,
    /// Held while a request asks for them, so that a crowd asks once.
    asking: Mutex<()>,
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Addresses")
    }
}

impl Addresses {
    /// Those of a name, which wasn't asked for yet.
    pub fn of(host: &str, port: u16) -> Self {
        let host = host.to_owned();
        Addresses::from(Name { host, port })
    }

    fn from(source: impl ServiceDiscovery + Send + Sync + 'static) -> Self {
        Addresses {
            balancer: LoadBalancer::from_backends(Backends::new(Box::new(source))),
            asking: Mutex::new(()),
        }
    }

    /// Asks DNS, and takes back what was left out.
    ///
    /// # Errors
    /// When the name wasn't answered; the last addresses stay.
    pub async fn ask(&self) -> Result<()> {
        let asked = self.balancer.update().await;
        self.take_back();
        asked
    }

    /// Whether nothing is known yet.
    pub fn are_unknown(&self) -> bool {
        self.balancer.backends().get_backend().is_empty()
    }

    /// Whose turn it is, and whether there are others. Asks for them, if that was in vain before.
    ///
    /// # Errors
    /// When there is none.
    pub async fn next(&self, within: Duration) -> Result<(SocketAddr, bool)> {
        if self.are_unknown() {
            let asked = async {
                let _asking = self.asking.lock().await;
                match self.are_unknown() {
                    true => self.ask().await,
                    false => Ok(()),
                }
            };
            let asked = tokio::time::timeout(within, asked).await;
            asked.map_err(|_elapsed| no_address())??;
        }
        let selected = self.balancer.select(b"", ADDRESSES_TRIED);
        let address = selected.ok_or_else(no_address)?.addr;
        let others = self.usable() > 1;
        Ok((address, others))
    }

    /// Leaves an address out until the next answer, if there is another; whether there is.
    pub fn leave_out(&self, address: &SocketAddr) -> bool {
        let backends = self.balancer.backends();
        let known = backends.get_backend();
        if let Some(known) = known.iter().find(|known| known.addr == *address) {
            backends.set_enable(known, false);
        }
        let is_left = known.len() > 1 && self.usable() > 0;
        if !is_left {
            self.take_back();
        }
        is_left
    }

    fn take_back(&self) {
        let backends = self.balancer.backends();
        for address in backends.get_backend().iter() {
            backends.set_enable(address, true);
        }
    }

    fn usable(&self) -> usize {
        let backends = self.balancer.backends();
        let known = backends.get_backend();
        match known.len() {
            // Nothing to hash for the usual name.
            1 => 1,
            _ => known.iter().filter(|known| backends.ready(known)).count(),
        }
    }
}

fn no_address() -> Box<Error> {
    Error::explain(
        ErrorType::ConnectNoRoute,
        "the backend's name has no address",
    )
}

/// A host name as the source of addresses.
struct Name {
    host: String,
    port: u16,
}

#[async_trait]
impl ServiceDiscovery for Name {
    async fn discover(&self) -> Result<(BTreeSet<Address>, HashMap<u64, bool>)> {
        let looked_up = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, looked_up).await;
        let addresses = match found {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                return Error::e_because(ErrorType::ConnectNoRoute, "looking up a backend", error);
            }
            Err(_elapsed) => {
                return Error::e_explain(ErrorType::ConnectTimedout, "looking up a backend");
            }
        };
        let addresses = addresses.filter_map(|address| Address::new(&address.to_string()).ok());
        let addresses: BTreeSet<Address> = addresses.collect();
        match addresses.is_empty() {
            true => Err(no_address()),
            false => Ok((addresses, HashMap::new())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use pingora_load_balancing::discovery::Static;

    use super::*;

    /// A name's addresses, as DNS would have told them.
    pub async fn known(addresses: &[&str]) -> Addresses {
        let addresses = addresses
            .iter()
            .map(|address| Address::new(address).unwrap());
        let known = Addresses::from(*Static::new(addresses.collect()));
        known.ask().await.unwrap();
        known
    }

    async fn next(addresses: &Addresses) -> String {
        let (address, _) = addresses.next(Duration::from_secs(1)).await.unwrap();
        address.to_string()
    }

    fn leave_out(addresses: &Addresses, address: &str) -> bool {
        addresses.leave_out(&address.parse().unwrap())
    }

    #[tokio::test]
    async fn an_address_that_takes_no_connection_is_left_out_until_the_name_is_asked_for_again() {
        let addresses = known(&["127.0.0.1:1", "[::1]:1"]).await;
        let mut both = [next(&addresses).await, next(&addresses).await];
        both.sort();
        assert_eq!(both, ["127.0.0.1:1", "[::1]:1"]);
        assert!(leave_out(&addresses, "[::1]:1"));
        for _ in 0..4 {
            assert_eq!(next(&addresses).await, "127.0.0.1:1");
        }
        addresses.ask().await.unwrap();
        assert_ne!(next(&addresses).await, next(&addresses).await);
    }

    #[tokio::test]
    async fn where_none_takes_a_connection_all_are_tried_again() {
        let addresses = known(&["127.0.0.1:1", "127.0.0.2:1"]).await;
        assert!(leave_out(&addresses, "127.0.0.1:1"));
        assert!(!leave_out(&addresses, "127.0.0.2:1"));
        assert_ne!(next(&addresses).await, next(&addresses).await);
        let only = known(&["127.0.0.1:1"]).await;
        assert!(!leave_out(&only, "127.0.0.1:1"));
        assert_eq!(next(&only).await, "127.0.0.1:1");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error_and_is_asked_for_again() {
        let none = Addresses::of("no-such-name.invalid", 1);
        assert!(none.are_unknown());
        assert!(none.next(Duration::from_secs(10)).await.is_err());
        let named = Addresses::of("localhost", 1);
        assert!(named.are_unknown());
        assert!(next(&named).await.ends_with(":1"));
        assert!(!named.are_unknown());
    }
}
