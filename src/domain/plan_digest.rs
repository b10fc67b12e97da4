//! A plan (what a run would do) and the digest that approves it. Pure.
//!
//! The digest covers the destination, the file, the chunk size, and every job by question and target status.
//! It covers no job numbers and no times, so the same jobs have the same digest on every day.
//!
//! The canonical text has one line for each item, a name and a value:
//!
//! ```text
//! deskbatch plan 1
//! sdkappid 1400000000
//! library chitchat
//! endpoint adminapisgp.im.qcloud.com 410b0be4   the host, and 8 digits of the SHA-256 of the base URL
//! chunk 100
//! reimport no
//! file 9f86d081…            SHA-256 of the manifest and its options, or none
//! batch new                 new, continues, finished, or none without a file
//! pending 0 0 0 e3b0c442…   pending jobs that would be sent too
//! jobs 130 110 72 5feceb66… all jobs that would be sent
//! ```
//!
//! A set of jobs is written as its counts of enable, disable and delete, and the SHA-256 of its lines
//! `status question_id`, each with its line end, sorted by the bytes of the question id. The digest has
//! 64 hex digits: four each of the SHA-256 of the lines of destination, settings, file and pending jobs,
//! which show what has changed, and then 48 digits (192 bits) of the SHA-256 of the whole text, its last
//! line end included.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::domain::job::{App, TargetStatus};
use crate::util::hex::hex;

/// Hex digits of a digest.
pub const DIGEST_CHARS: usize = 64;

/// Hex digits of the hint for each part.
const HINT_CHARS: usize = 4;

/// The parts with a hint: the names of their lines, and their description.
const PARTS: [(&[&str], &str); 4] = [
    (&["sdkappid", "library", "endpoint"], "the destination (app, library or endpoint)"),
    (&["chunk", "reimport"], "the chunk size or --reimport"),
    (&["file"], "the file"),
    (&["pending"], "the pending jobs of the queue"),
];

/// The lines that must be unchanged when an interrupted plan is resumed. They exclude the pending jobs, which
/// every response changes.
const CONDITIONS: [&str; 6] = ["sdkappid", "library", "endpoint", "chunk", "reimport", "file"];

/// Counts and digest of a set of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSetDigest {
    /// Jobs by target status, in the order of [`TargetStatus::ALL`].
    pub counts: [u64; 3],
    /// SHA-256 of all jobs, 64 hex digits.
    pub digest: String,
}

impl JobSetDigest {
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn deletes(&self) -> u64 {
        deletes(self.counts)
    }
}

/// The deletes in counts by target status, in the order of [`TargetStatus::ALL`].
pub fn deletes(counts: [u64; 3]) -> u64 {
    let [_, _, deletes] = counts;
    deletes
}

/// Computes a [`JobSetDigest`] from jobs in the order of their question ids.
#[derive(Debug, Default)]
pub struct JobSetHasher {
    counts: [u64; 3],
    hash: Sha256,
}

impl JobSetHasher {
    /// Adds one job.
    pub fn add(&mut self, status: TargetStatus, question_id: &str) {
        for (count, of) in self.counts.iter_mut().zip(TargetStatus::ALL) {
            *count += u64::from(of == status);
        }
        self.hash.update(format!("{status} {question_id}\n"));
    }

    /// The digest of all added jobs.
    pub fn finish(self) -> JobSetDigest {
        JobSetDigest { counts: self.counts, digest: hex(&self.hash.finalize()) }
    }
}

/// The effect of an import of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Effect {
    /// A new batch.
    New,
    /// The file was imported before, and its batch has unfinished jobs.
    Continues,
    /// The file was imported before, and its batch has no unfinished job.
    Finished,
    /// The file has no rows.
    #[strum(to_string = "none")]
    Empty,
}

/// The file of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// Its name as given.
    pub name: String,
    /// SHA-256 of the file and of the options that change its meaning, 64 hex digits.
    pub digest: String,
    /// All rows.
    pub rows: u64,
    /// Duplicate rows.
    pub duplicates: u64,
    /// Bad rows that would be skipped.
    pub rejected: u64,
    /// The first rejected rows, each with its reason.
    pub rejected_shown: Vec<String>,
    /// Its jobs by target status, in the order of [`TargetStatus::ALL`].
    pub jobs: [u64; 3],
    /// The effect of its import.
    pub effect: Effect,
    /// The batch of an earlier import of the same file, and its open jobs.
    pub known: Option<(i64, u64)>,
    /// Why that batch is not finished although it has no open job; empty if it is finished.
    pub missing: String,
    /// Pending jobs that the import would supersede.
    pub superseded: u64,
    /// The warnings about the manifest, one sentence each. The digest excludes them: they follow from the
    /// file and the app, which it covers, and their wording may change between versions.
    pub warnings: Vec<String>,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The app.
    pub app: App,
    /// The host that receives the requests.
    pub endpoint: String,
    /// Distinguishes base URLs on one host.
    pub endpoint_mark: String,
    /// The most questions in a request.
    pub chunk: u64,
    /// Whether a known file makes a new batch (`--reimport`).
    pub reimport: bool,
    /// The file, if one is named.
    pub file: Option<FilePlan>,
    /// Pending jobs of the queue that would be sent too.
    pub pending: JobSetDigest,
    /// All jobs that would be sent.
    pub open: JobSetDigest,
    /// Of `open`, jobs that may have been applied already: they are in flight or in doubt.
    pub in_doubt: u64,
    /// The questions that would be deleted: the first ones, or all.
    pub deletes: Vec<String>,
}

impl Plan {
    /// The canonical text; see the module's documentation.
    pub fn canonical_text(&self) -> String {
        let mut text = format!(
            "deskbatch plan 1\nsdkappid {}\nlibrary {}\nendpoint {} {}\nchunk {}\nreimport {}\n",
            self.app.sdkappid,
            self.app.library,
            self.endpoint,
            self.endpoint_mark,
            self.chunk,
            if self.reimport { "yes" } else { "no" },
        );
        let file = self.file.as_ref();
        let _ = write!(
            text,
            "file {}\nbatch {}\n",
            file.map_or("none", |file| &file.digest),
            file.map_or("none", |file| file.effect.into()),
        );
        for (name, sum) in [("pending", &self.pending), ("jobs", &self.open)] {
            let [enable, disable, delete] = sum.counts;
            let _ = writeln!(text, "{name} {enable} {disable} {delete} {}", sum.digest);
        }
        text
    }

    /// The digest; see the module's documentation.
    pub fn digest(&self) -> String {
        let text = self.canonical_text();
        let mut digest: String = PARTS.iter().map(|(names, _)| hint(&text, names)).collect();
        digest.push_str(&sha256(&text));
        digest.truncate(DIGEST_CHARS);
        digest
    }

    /// The lines that must be unchanged when an interrupted plan is resumed.
    pub fn conditions(&self) -> String {
        lines(&self.canonical_text(), &CONDITIONS)
    }

    /// The parts that have changed since `digest` was made; empty if the hints do not show it.
    pub fn diff_digest(&self, digest: &str) -> Vec<&'static str> {
        let text = self.canonical_text();
        let hints = digest.as_bytes().chunks(HINT_CHARS);
        let differs = PARTS.iter().zip(hints);
        differs
            .filter(|((names, _), then)| hint(&text, names).as_bytes() != *then)
            .map(|((_, words), _)| *words)
            .collect()
    }

    /// The parts that have changed since [`Plan::conditions`] returned `conditions`.
    pub fn diff_conditions(&self, conditions: &str) -> Vec<&'static str> {
        let now = self.conditions();
        let differs =
            PARTS.iter().filter(|(names, _)| lines(conditions, names) != lines(&now, names));
        differs
            .filter(|(names, _)| CONDITIONS.contains(&names[0]))
            .map(|(_, words)| *words)
            .collect()
    }
}

/// The lines of `text` with one of `names`.
fn lines(text: &str, names: &[&str]) -> String {
    let is_of = |line: &&str| line.split(' ').next().is_some_and(|name| names.contains(&name));
    text.lines().filter(is_of).flat_map(|line| [line, "\n"]).collect()
}

fn hint(text: &str, names: &[&str]) -> String {
    let mut digest = sha256(&lines(text, names));
    digest.truncate(HINT_CHARS);
    digest
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Library;

    fn digest_of(jobs: &[(TargetStatus, &str)]) -> JobSetDigest {
        let mut hasher = JobSetHasher::default();
        for (status, id) in jobs {
            hasher.add(*status, id);
        }
        hasher.finish()
    }

    fn plan() -> Plan {
        Plan {
            app: App { sdkappid: 1_400_000_000, library: Library::Chitchat },
            endpoint: "host".to_owned(),
            endpoint_mark: "12345678".to_owned(),
            chunk: 100,
            reimport: false,
            file: Some(FilePlan {
                name: "a.csv".to_owned(),
                digest: "f".repeat(64),
                rows: 2,
                duplicates: 0,
                rejected: 0,
                rejected_shown: Vec::new(),
                jobs: [1, 0, 1],
                effect: Effect::New,
                known: None,
                missing: String::new(),
                superseded: 0,
                warnings: Vec::new(),
            }),
            pending: digest_of(&[]),
            open: digest_of(&[(TargetStatus::Enable, "a"), (TargetStatus::Delete, "b")]),
            in_doubt: 0,
            deletes: Vec::new(),
        }
    }

    #[test]
    fn text_and_digest_match_the_documentation() {
        let plan = plan();
        let jobs = sha256("enable a\ndelete b\n");
        let text = format!(
            "deskbatch plan 1\nsdkappid 1400000000\nlibrary chitchat\nendpoint host 12345678\nchunk 100\nreimport no\n\
             file {}\nbatch new\npending 0 0 0 {}\njobs 1 0 1 {jobs}\n",
            "f".repeat(64),
            sha256("")
        );
        assert_eq!(plan.canonical_text(), text);
        let place = "sdkappid 1400000000\nlibrary chitchat\nendpoint host 12345678\n";
        let digest = plan.digest();
        assert_eq!(digest.len(), DIGEST_CHARS);
        assert_eq!(digest[..4], sha256(place)[..4]);
        assert_eq!(digest[16..], sha256(&text)[..48]);
    }

    /// A change, and the part whose hint shows it.
    type Change = (fn(&mut Plan), Option<usize>);

    #[test]
    fn every_change_changes_digest_and_hint() {
        let approved = plan();
        let changes: [Change; 11] = [
            (|p| p.app.sdkappid += 1, Some(0)),
            (|p| p.app.library = Library::Faq, Some(0)),
            (|p| p.endpoint.push('2'), Some(0)),
            (|p| p.endpoint_mark.push('2'), Some(0)),
            (|p| p.chunk = 99, Some(1)),
            (|p| p.reimport = true, Some(1)),
            (|p| p.file.as_mut().unwrap().digest = "e".repeat(64), Some(2)),
            (|p| p.file = None, Some(2)),
            (|p| p.pending = digest_of(&[(TargetStatus::Delete, "c")]), Some(3)),
            (
                |p| {
                    p.open =
                        digest_of(&[(TargetStatus::Disable, "a"), (TargetStatus::Delete, "b")]);
                },
                None,
            ),
            (|p| p.file.as_mut().unwrap().effect = Effect::Finished, None),
        ];
        for (at, (change, part)) in changes.into_iter().enumerate() {
            let mut now = plan();
            change(&mut now);
            assert_ne!(now.digest(), approved.digest(), "change {at}");
            let words: Vec<&str> = part.into_iter().map(|part| PARTS[part].1).collect();
            assert_eq!(now.diff_digest(&approved.digest()), words, "change {at}");
            let of_conditions = part.filter(|part| *part < 3).map(|part| PARTS[part].1);
            let of_conditions: Vec<&str> = of_conditions.into_iter().collect();
            assert_eq!(now.diff_conditions(&approved.conditions()), of_conditions, "change {at}");
        }
        let mut same = plan();
        same.deletes.push("b".to_owned());
        same.in_doubt = 1;
        // A job in flight of a run that died is pending, and so superseded, once the next run has its lease.
        same.file.as_mut().unwrap().superseded = 1;
        same.file.as_mut().unwrap().name = "b.csv".to_owned();
        same.file.as_mut().unwrap().warnings.push("in other words".to_owned());
        assert_eq!(same.digest(), approved.digest());
    }
}
