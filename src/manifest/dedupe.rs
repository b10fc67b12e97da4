//! The question ids and target statuses of the rows read so far.
//!
//! Ten million ids must fit into the memory of a small host, so this module stores no id: 16 bytes of its
//! hash identify it, and 6 bytes hold line and status. Ten million ids take at most 400 MB. Two ids with the
//! same hash would count as one. With 128 bits and ten million ids the probability is 1 in 10^24, far below
//! that of a memory error. Each process has its own random hash keys, so no file can be prepared with a
//! collision.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};

use super::NewJob;
use crate::domain::job::TargetStatus;

/// A single map holds its old and its new table together while it grows, which takes half as much memory
/// again. Of many small maps only one grows at a time.
const SHARDS: usize = 64;

/// The largest line number that fits; later lines are reported as this one.
const LINE_MAX: u64 = (1 << 46) - 1;

type Key = [u8; 16];
/// 46 bits of line, 2 bits of status. Bytes, because a wider type has padding.
type Packed = [u8; 6];

/// The row that counts for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenRow {
    pub(super) status: TargetStatus,
    pub(super) line: u64,
}

/// The result of a comparison with the earlier rows of the same question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// No earlier row has this question.
    New,
    /// This earlier row counts.
    Earlier(SeenRow),
    /// Earlier rows have different target statuses. The text names one of them and the current row.
    Conflict(String),
}

/// The row that counts for each question so far.
pub(super) struct SeenIds {
    /// Two hashers, because one gives 64 bits. With ten million ids, 64 bits would collide once in some
    /// hundred thousand files.
    hashers: [RandomState; 2],
    shards: Vec<HashMap<Key, Packed>>,
    /// Questions without a row that counts, each with the first two rows that differ.
    conflicts: HashMap<Key, [Packed; 2]>,
}

/// The question ids of a manifest.
pub struct IdSet(SeenIds);

impl IdSet {
    pub fn contains(&self, id: &str) -> bool {
        let (shard, key) = self.0.find(id);
        self.0.shards.get(shard).is_some_and(|kept| kept.contains_key(&key))
    }
}

impl SeenIds {
    pub(super) fn new() -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            shards: (0..SHARDS).map(|_| HashMap::new()).collect(),
            conflicts: HashMap::new(),
        }
    }

    /// Records the row of `job` if it is the first of its question.
    pub(super) fn insert(&mut self, job: &NewJob) -> Noted {
        let (shard, key) = self.find(job.question_id.as_str());
        if let Some(statuses) = self.conflicts.get(&key) {
            return Noted::Conflict(in_words(job, *statuses));
        }
        match self.shards[shard].entry(key) {
            Entry::Occupied(kept) => Noted::Earlier(unpack(*kept.get())),
            Entry::Vacant(place) => {
                place.insert(pack(job));
                Noted::New
            }
        }
    }

    /// Records a conflict: the target status of `job` differs from that of the earlier row, and neither
    /// counts. Returns a text that names both.
    pub(super) fn set_aside(&mut self, job: &NewJob) -> String {
        let (shard, key) = self.find(job.question_id.as_str());
        let earlier = self.shards[shard].remove(&key).unwrap_or_else(|| pack(job));
        let statuses = [earlier, pack(job)];
        self.conflicts.insert(key, statuses);
        in_words(job, statuses)
    }

    pub(super) fn has_conflicts(&self) -> bool {
        !self.conflicts.is_empty()
    }

    /// The conflicts, without the questions that count.
    pub(super) fn conflicts_alone(self) -> Self {
        Self { hashers: self.hashers, conflicts: self.conflicts, ..Self::new() }
    }

    /// Records the row of `job` in place of the earlier one.
    pub(super) fn replace(&mut self, job: &NewJob) {
        let (shard, key) = self.find(job.question_id.as_str());
        self.shards[shard].insert(key, pack(job));
    }

    pub(super) fn into_id_set(self) -> IdSet {
        IdSet(self)
    }

    fn find(&self, id: &str) -> (usize, Key) {
        let [low, high] = [0, 1].map(|at: usize| self.hashers[at].hash_one(id));
        let key = (u128::from(low) | (u128::from(high) << 64)).to_le_bytes();
        (usize::from(key[0]) % SHARDS, key)
    }
}

/// Describes the target status of `job` and the first of `statuses` that differs, in the order of their lines.
fn in_words(job: &NewJob, statuses: [Packed; 2]) -> String {
    let own = SeenRow { status: job.status, line: job.line };
    let [first, second] = statuses.map(unpack);
    let other = if first.status == own.status { second } else { first };
    let (a, b) = if own.line < other.line { (own, other) } else { (other, own) };
    format!("line {} has {}, line {} has {}", a.line, a.status, b.line, b.status)
}

fn pack(job: &NewJob) -> Packed {
    let bits = (job.line.min(LINE_MAX) << 2) | job.status as u64;
    let mut packed = Packed::default();
    packed.copy_from_slice(&bits.to_le_bytes()[..size_of::<Packed>()]);
    packed
}

fn unpack(packed: Packed) -> SeenRow {
    let mut bytes = [0; 8];
    bytes[..packed.len()].copy_from_slice(&packed);
    let bits = u64::from_le_bytes(bytes);
    let status = match bits & 3 {
        0 => TargetStatus::Enable,
        1 => TargetStatus::Disable,
        _ => TargetStatus::Delete,
    };
    SeenRow { status, line: bits >> 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::QuestionId;

    fn job(id: &str, status: TargetStatus, line: u64) -> NewJob {
        NewJob { question_id: QuestionId::parse(id.as_bytes()).expect("an id"), status, line }
    }

    #[test]
    fn packed_status_and_line_roundtrip() {
        for status in TargetStatus::ALL {
            for line in [1, 2, 255, 1 << 33, LINE_MAX] {
                assert_eq!(unpack(pack(&job("a", status, line))), SeenRow { status, line });
            }
        }
        assert_eq!(unpack(pack(&job("a", TargetStatus::Delete, u64::MAX))).line, LINE_MAX);
    }

    #[test]
    fn ten_million_seen_ids_take_less_than_400_mb() {
        assert_eq!(size_of::<(Key, Packed)>(), 22);
        // The table of a map has a power of two of slots, is at most 7/8 full, and uses one more byte per
        // slot.
        let slots = (10_000_000_usize * 8 / 7).next_power_of_two();
        assert!(slots * 23 < 400_000_000);
    }

    #[test]
    fn first_row_of_a_question_is_kept_until_replaced() {
        let mut statuses = SeenIds::new();
        for n in 0..2_000 {
            assert_eq!(
                statuses.insert(&job(&format!("q-{n}"), TargetStatus::Enable, n)),
                Noted::New
            );
        }
        let kept =
            |statuses: &mut SeenIds| statuses.insert(&job("q-77", TargetStatus::Delete, 9_000));
        let status_of = |status, line| Noted::Earlier(SeenRow { status, line });
        assert_eq!(kept(&mut statuses), status_of(TargetStatus::Enable, 77));
        statuses.replace(&job("q-77", TargetStatus::Disable, 8_000));
        assert_eq!(kept(&mut statuses), status_of(TargetStatus::Disable, 8_000));
        let questions = statuses.into_id_set();
        let has = |id| questions.contains(id);
        assert_eq!(
            ["q-0", "q-77", "q-1999", "q-2000", "q-"].map(has),
            [true, true, true, false, false]
        );
    }
}
