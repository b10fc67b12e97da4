//! The ledger: every request that the sandbox received, in the order of decision, and sums.
//!
//! It contains no credential: a request is kept without its UserSig. The latest requests are kept up to a
//! limit of rows and of memory; the sums cover all requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::call::Command;
use super::decide::{Decision, Now};
use super::faults::Fault;
use crate::domain::clock::Moment;

/// The most requests kept.
const REQUESTS_MAX: usize = 100_000;

/// The most memory that the ids of the kept requests may take.
const IDS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One request that the sandbox received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// Its number in the order of decision, from 1.
    pub number: u64,
    /// When its header had arrived.
    pub arrived: Moment,
    /// When it was counted and decided. Later than `arrived` by the time for the body and by the uplink
    /// delay.
    pub counted: Moment,
    /// The time of the decision by the wall clock, in UTC milliseconds since 1970.
    pub wall_ms: i64,
    /// The command; `None` for a path that belongs to no command.
    pub command: Option<Command>,
    /// The SDKAppID in the query, if it is a number.
    pub sdkappid: Option<u64>,
    /// The random number in the query, if it is valid.
    pub random: Option<u32>,
    /// The target status, if it is an integer.
    pub status: Option<i64>,
    /// The question ids that are text.
    pub ids: Vec<String>,
    /// The code of the decision, even if a fault kept it from the client. `None` if the request failed before
    /// a code was assigned.
    pub code: Option<i64>,
    /// The HTTP status; `None` if the connection was cut instead.
    pub http: Option<u16>,
    /// The fault injected into it.
    pub fault: Option<Fault>,
    /// Whether it changed any question.
    pub applied: bool,
}

/// A copy of the ledger at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The latest requests, oldest first: the last 100,000, or fewer if they have very many ids.
    pub requests: Vec<Arc<SeenRequest>>,
    /// The number of all requests, without reads.
    pub total: u64,
    /// The number of reads, which change nothing.
    pub reads: u64,
    /// The number of requests for each code.
    pub codes: BTreeMap<i64, u64>,
    /// The number of requests for each fault.
    pub faults: BTreeMap<Fault, u64>,
    /// The most calls for one app and command that arrived in any sliding second, whatever their result. It
    /// exceeds the limit only if a client did not keep the limit.
    pub largest_second: usize,
    /// The most calls within the limit in any sliding second, for one app and command.
    pub largest_second_accepted: usize,
}

/// Writes a [`Ledger`].
#[derive(Debug, Default)]
pub(super) struct LedgerWriter {
    kept: VecDeque<Arc<SeenRequest>>,
    ids_bytes: usize,
    total: u64,
    reads: u64,
    codes: BTreeMap<i64, u64>,
    faults: BTreeMap<Fault, u64>,
}

impl LedgerWriter {
    /// The number of recorded requests, without reads.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The number of the next request.
    pub(super) fn next_number(&self) -> u64 {
        self.total + self.reads + 1
    }

    pub(super) fn record(
        &mut self,
        decision: Decision,
        http: Option<u16>,
        arrived: Moment,
        now: Now,
    ) {
        let Decision { command, sdkappid, random, status, ids, code, applied, fault, .. } =
            decision;
        let number = self.next_number();
        if command.is_some_and(Command::is_read) {
            self.reads += 1;
        } else {
            self.total += 1;
        }
        if let Some(code) = code {
            *self.codes.entry(code).or_default() += 1;
        }
        if let Some(fault) = fault {
            *self.faults.entry(fault).or_default() += 1;
        }
        self.keep(SeenRequest {
            number,
            arrived,
            counted: now.moment,
            wall_ms: now.wall_ms,
            command,
            sdkappid,
            random,
            status,
            ids,
            code,
            http,
            fault,
            applied,
        });
    }

    fn keep(&mut self, request: SeenRequest) {
        self.ids_bytes += ids_bytes(&request);
        self.kept.push_back(Arc::new(request));
        while self.kept.len() > REQUESTS_MAX || self.ids_bytes > IDS_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.ids_bytes -= ids_bytes(&oldest);
        }
    }

    /// A copy of the sums and of the latest `requests_max` requests.
    pub(super) fn snapshot(&self, requests_max: usize) -> Ledger {
        let skipped = self.kept.len().saturating_sub(requests_max);
        Ledger {
            requests: self.kept.iter().skip(skipped).cloned().collect(),
            total: self.total,
            reads: self.reads,
            codes: self.codes.clone(),
            faults: self.faults.clone(),
            ..Ledger::default()
        }
    }
}

fn ids_bytes(request: &SeenRequest) -> usize {
    request.ids.iter().map(|id| id.len() + size_of::<String>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(book: &mut LedgerWriter, code: i64, ids: Vec<String>) {
        let decision = Decision {
            command: Some(Command::BatchSetFaq),
            sdkappid: Some(1),
            random: Some(2),
            status: Some(4),
            ids,
            code: Some(code),
            applied: code == 0,
            fault: None,
            page: None,
        };
        let now = Now { moment: Moment::default(), wall_ms: 0 };
        book.record(decision, Some(200), Moment::default(), now);
    }

    #[test]
    fn ledger_keeps_newest_requests_and_counts_all() {
        let mut book = LedgerWriter::default();
        for number in 0..=REQUESTS_MAX {
            note(&mut book, if number % 2 == 0 { 0 } else { -14 }, Vec::new());
        }
        let all = book.snapshot(usize::MAX);
        assert_eq!((all.requests.len(), all.total), (REQUESTS_MAX, 100_001));
        assert_eq!(all.codes, BTreeMap::from([(-14, 50_000), (0, 50_001)]));
        let last = book.snapshot(2).requests;
        assert_eq!(last.iter().map(|seen| seen.number).collect::<Vec<_>>(), [100_000, 100_001]);
    }

    #[test]
    fn very_large_requests_push_older_ones_out_sooner() {
        let mut book = LedgerWriter::default();
        for _ in 0..10 {
            note(&mut book, 0, vec!["x".repeat(IDS_BYTES_MAX / 4)]);
        }
        let ledger = book.snapshot(usize::MAX);
        assert_eq!((ledger.requests.len(), ledger.total), (3, 10));
        assert!(book.ids_bytes <= IDS_BYTES_MAX);
    }
}
