//! Who gives way when there are too many connections.
//!
//! A connection is admitted once a request on it was let look: it came from this machine, or
//! showed the token. The others are strangers, and of them the address that has the most pays
//! first. So neither a browser of this machine nor a holder of the token is kept out, however many
//! half-sent requests there are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Whether a request on a connection was let look; set by the guard before all routes.
#[derive(Debug, Clone, Default)]
pub(super) struct Admitted(Arc<AtomicBool>);

impl Admitted {
    /// From now on it is admitted.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections that there are, oldest first.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    from: IpAddr,
    admitted: Admitted,
    connection: AbortHandle,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Vec::new() }
    }

    /// Ends a connection if there is no room for one more.
    pub(super) fn make_room(&mut self) {
        self.taken.retain(|place| !place.connection.is_finished());
        while self.taken.len() >= self.most {
            let Some(at) = self.least_entitled() else { return };
            self.taken.remove(at).connection.abort();
        }
    }

    /// Takes in a new connection.
    pub(super) fn give(&mut self, from: IpAddr, admitted: Admitted, connection: AbortHandle) {
        self.taken.push(Place { from: network_of(from), admitted, connection });
    }

    /// Strangers before those admitted, then of the address with the most, then the oldest.
    fn least_entitled(&self) -> Option<usize> {
        let mut counts: HashMap<(bool, IpAddr), usize> = HashMap::new();
        let key = |place: &Place| (place.admitted.is_set(), place.from);
        let keys: Vec<_> = self.taken.iter().map(key).collect();
        for key in &keys {
            *counts.entry(*key).or_default() += 1;
        }
        let rank = |at: &usize| {
            let (is_admitted, _) = keys[*at];
            (is_admitted, usize::MAX - counts[&keys[*at]], *at)
        };
        (0..keys.len()).min_by_key(rank)
    }
}

/// One that has an IPv6 address has all of its network's.
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

    struct Crowd {
        places: Places,
        tasks: Vec<tokio::task::JoinHandle<()>>,
    }

    impl Crowd {
        fn new(most: usize) -> Self {
            Self { places: Places::new(most), tasks: Vec::new() }
        }

        fn comes(&mut self, from: &str, is_admitted: bool) {
            self.places.make_room();
            let task = tokio::spawn(std::future::pending());
            let admitted = Admitted::default();
            if is_admitted {
                admitted.set();
            }
            self.places.give(from.parse().unwrap(), admitted, task.abort_handle());
            self.tasks.push(task);
        }

        /// Which are still there, by the order in which they came.
        async fn left(&self) -> Vec<usize> {
            tokio::task::yield_now().await;
            (0..self.tasks.len()).filter(|at| !self.tasks[*at].is_finished()).collect()
        }
    }

    #[tokio::test]
    async fn stranger_of_the_fullest_address_gives_way() {
        let mut crowd = Crowd::new(4);
        crowd.comes("10.0.0.1", false);
        for _ in 0..3 {
            crowd.comes("10.0.0.2", false);
        }
        crowd.comes("10.0.0.3", false);
        assert_eq!(crowd.left().await, [0, 2, 3, 4]);
        // Every address of one network counts as the same.
        let mut crowd = Crowd::new(3);
        for from in ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:1::2", "::ffff:10.0.0.1"] {
            crowd.comes(from, false);
        }
        assert_eq!(crowd.left().await, [0, 2, 3]);
    }

    #[tokio::test]
    async fn admitted_connection_outlives_every_stranger() {
        let mut crowd = Crowd::new(3);
        crowd.comes("10.0.0.1", true);
        for _ in 0..20 {
            crowd.comes("10.0.0.1", false);
        }
        assert_eq!(crowd.left().await, [0, 19, 20]);
        // Where all are admitted, the oldest is one that can come again.
        let mut crowd = Crowd::new(2);
        for _ in 0..3 {
            crowd.comes("127.0.0.1", true);
        }
        assert_eq!(crowd.left().await, [1, 2]);
    }
}
