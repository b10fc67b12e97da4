//! The limit on connections: which one is closed for a new one.
//!
//! A connection is authorized once a request on it was allowed. Unauthorized ones are closed first, and
//! of them one of the address with the most connections. So any number of half-sent requests locks out
//! neither a local browser nor a holder of the token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Whether a request on the connection was allowed; set by the guard of all routes.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorized(Arc<AtomicBool>);

impl Authorized {
    /// Marks the connection as authorized.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The open connections, oldest first.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    open: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    network: IpAddr,
    authorized: Authorized,
    task: AbortHandle,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self { max, open: Vec::new() }
    }

    /// Closes connections until there is room for one more.
    pub(super) fn make_room(&mut self) {
        self.open.retain(|connection| !connection.task.is_finished());
        while self.open.len() >= self.max {
            let Some(at) = self.first_to_close() else { return };
            self.open.remove(at).task.abort();
        }
    }

    /// Adds a new connection.
    pub(super) fn add(&mut self, from: IpAddr, authorized: Authorized, task: AbortHandle) {
        self.open.push(Connection { network: network_of(from), authorized, task });
    }

    /// Unauthorized before authorized, then of the network with the most connections, then the oldest.
    fn first_to_close(&self) -> Option<usize> {
        let mut counts: HashMap<(bool, IpAddr), usize> = HashMap::new();
        let key = |connection: &Connection| (connection.authorized.is_set(), connection.network);
        let keys: Vec<_> = self.open.iter().map(key).collect();
        for key in &keys {
            *counts.entry(*key).or_default() += 1;
        }
        let rank = |at: &usize| {
            let (is_authorized, _) = keys[*at];
            (is_authorized, usize::MAX - counts[&keys[*at]], *at)
        };
        (0..keys.len()).min_by_key(rank)
    }
}

/// The /64 network of an IPv6 address, whose owner can use all of it; an IPv4 address itself.
fn network_of(from: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match from.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clients {
        connections: Connections,
        tasks: Vec<tokio::task::JoinHandle<()>>,
    }

    impl Clients {
        fn new(max: usize) -> Self {
            Self { connections: Connections::new(max), tasks: Vec::new() }
        }

        fn connect(&mut self, from: &str, is_authorized: bool) {
            self.connections.make_room();
            let task = tokio::spawn(std::future::pending());
            let authorized = Authorized::default();
            if is_authorized {
                authorized.set();
            }
            self.connections.add(from.parse().unwrap(), authorized, task.abort_handle());
            self.tasks.push(task);
        }

        /// The numbers of the open connections, in the order of connecting.
        async fn still_open(&self) -> Vec<usize> {
            tokio::task::yield_now().await;
            (0..self.tasks.len()).filter(|at| !self.tasks[*at].is_finished()).collect()
        }
    }

    #[tokio::test]
    async fn unauthorized_of_busiest_network_is_closed() {
        let mut clients = Clients::new(4);
        clients.connect("10.0.0.1", false);
        for _ in 0..3 {
            clients.connect("10.0.0.2", false);
        }
        clients.connect("10.0.0.3", false);
        assert_eq!(clients.still_open().await, [0, 2, 3, 4]);
        // All addresses of a /64 network count as one.
        let mut clients = Clients::new(3);
        for from in ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:1::2", "::ffff:10.0.0.1"] {
            clients.connect(from, false);
        }
        assert_eq!(clients.still_open().await, [0, 2, 3]);
    }

    #[tokio::test]
    async fn authorized_connections_are_closed_last() {
        let mut clients = Clients::new(3);
        clients.connect("10.0.0.1", true);
        for _ in 0..20 {
            clients.connect("10.0.0.1", false);
        }
        assert_eq!(clients.still_open().await, [0, 19, 20]);
        // If all are authorized, the oldest is closed.
        let mut clients = Clients::new(2);
        for _ in 0..3 {
            clients.connect("127.0.0.1", true);
        }
        assert_eq!(clients.still_open().await, [1, 2]);
    }
}
