//! A plan: what a run would do, and the digest by which somebody approves it.
//!
//! Pure. The digest is over what the service and the queue would see: where it goes, the
//! file, how it is cut into requests, and every job by its question and status. It is not
//! over numbers of jobs or over times, so the same work has the same digest every night.
//!
//! The canonical text has one line for each thing, a name and a value:
//!
//! ```text
//! deskbatch plan 1
//! sdkappid 1400000000
//! library chitchat
//! endpoint adminapisgp.im.qcloud.com 410b0be4   the host, and 8 digits of the SHA-256 of the base URL
//! chunk 100
//! again no
//! file 9f86d081…            SHA-256 of the manifest and its options, or none
//! batch new                 new, continues, finished, or none without a file
//! superseded 0              jobs that wait and that the import supersedes
//! waiting 0 0 0 e3b0c442…   jobs that wait and would be sent too
//! jobs 130 110 72 5feceb66… all jobs that would be sent
//! ```
//!
//! A set of jobs is its numbers of enable, disable and delete, and the SHA-256 of its lines
//! `status question_id`, each with its line end, in the order of the questions' bytes. The
//! digest that is shown is 64 hex digits: four digits each of the SHA-256 of the lines on
//! the place, the settings, the file and what waits, which only tell what has changed, and
//! then 48 digits (192 bits) of the SHA-256 of the whole text, its last line end included.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::domain::job::{App, Status};

/// Hex digits of a digest.
pub const DIGEST_CHARS: usize = 64;

/// Hex digits that tell what changed in one part.
const HINT_CHARS: usize = 4;

/// The parts whose change can be told, each by its lines and in words.
const PARTS: [(&[&str], &str); 4] = [
    (&["sdkappid", "library", "endpoint"], "where it is sent (application, library or endpoint)"),
    (&["chunk", "again"], "the questions a request, or --again"),
    (&["file"], "the file"),
    (&["waiting"], "the jobs that wait in the queue"),
];

/// The lines that have to hold still when an interrupted run goes on with its plan. What
/// waits is no part of it: a job leaves it with every answer.
const TERMS: [&str; 6] = ["sdkappid", "library", "endpoint", "chunk", "again", "file"];

/// A set of jobs, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsSum {
    /// How many, in the order of [`Status::ALL`].
    pub counts: [u64; 3],
    /// SHA-256 over all of them, 64 hex digits.
    pub digest: String,
}

impl JobsSum {
    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many are deleted.
    pub fn deletes(&self) -> u64 {
        deletes(self.counts)
    }
}

/// How many of `counts`, by status in the order of [`Status::ALL`], are deletes.
pub fn deletes(counts: [u64; 3]) -> u64 {
    let [_, _, deletes] = counts;
    deletes
}

/// Sums up jobs that come in the order of their questions.
#[derive(Debug, Default)]
pub struct JobsSummer {
    counts: [u64; 3],
    hash: Sha256,
}

impl JobsSummer {
    /// Takes one job in.
    pub fn add(&mut self, status: Status, question_id: &str) {
        for (count, of) in self.counts.iter_mut().zip(Status::ALL) {
            *count += u64::from(of == status);
        }
        self.hash.update(format!("{status} {question_id}\n"));
    }

    /// The sum of what was taken in.
    pub fn finish(self) -> JobsSum {
        JobsSum { counts: self.counts, digest: hex(&self.hash.finalize()) }
    }
}

/// What an import of the file would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// A new batch.
    New,
    /// Nothing new: the batch that the same file made before has jobs to do still.
    Continues,
    /// Nothing: the batch that the same file made before is finished.
    Finished,
    /// Nothing: the file has no rows.
    Empty,
}

impl Effect {
    fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Continues => "continues",
            Self::Finished => "finished",
            Self::Empty => "none",
        }
    }
}

/// The file of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// Its name, as it was given.
    pub name: String,
    /// SHA-256 of it and of the options that change its meaning, 64 hex digits.
    pub digest: String,
    /// Its rows.
    pub rows: u64,
    /// Rows that say again what another row says.
    pub duplicates: u64,
    /// Rows that are bad and would be left out.
    pub rejected: u64,
    /// The first of these, each with its reason.
    pub rejected_shown: Vec<String>,
    /// Its jobs by status, in the order of [`Status::ALL`].
    pub jobs: [u64; 3],
    /// What an import of it would do.
    pub effect: Effect,
    /// The batch that the same file made before, if it counts, and its jobs to do still.
    pub known: Option<(i64, u64)>,
    /// Why that batch is not finished although nothing of it is to do, in words; empty if it is.
    pub missing: String,
    /// Jobs that wait and that its import would supersede.
    pub superseded: u64,
    /// What its reader warns of, a sentence each. The digest is not over them: they follow from the
    /// file and the application, which it is over, and another version may find other words.
    pub warnings: Vec<String>,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which application and library.
    pub app: App,
    /// Where requests would go: the host, for people.
    pub endpoint: String,
    /// Tells addresses on one host apart.
    pub endpoint_mark: String,
    /// The most questions in one request.
    pub chunk: u64,
    /// Whether a file that is known makes a new batch.
    pub again: bool,
    /// The file, if there is one.
    pub file: Option<FilePlan>,
    /// The jobs that wait in the queue already and would be sent too.
    pub waiting: JobsSum,
    /// All jobs that would be sent.
    pub open: JobsSum,
    /// Of these, in a request without a recorded answer: a run is going on, or has died.
    pub in_flight: u64,
    /// The questions that would be deleted: the first of them, or all.
    pub deletes: Vec<String>,
}

impl Plan {
    /// The canonical text; see the head of this file.
    pub fn text(&self) -> String {
        let mut text = format!(
            "deskbatch plan 1\nsdkappid {}\nlibrary {}\nendpoint {} {}\nchunk {}\nagain {}\n",
            self.app.sdkappid,
            self.app.library,
            self.endpoint,
            self.endpoint_mark,
            self.chunk,
            if self.again { "yes" } else { "no" },
        );
        let file = self.file.as_ref();
        let _ = write!(
            text,
            "file {}\nbatch {}\nsuperseded {}\n",
            file.map_or("none", |file| &file.digest),
            file.map_or("none", |file| file.effect.name()),
            file.map_or(0, |file| file.superseded),
        );
        for (name, sum) in [("waiting", &self.waiting), ("jobs", &self.open)] {
            let [enable, disable, delete] = sum.counts;
            let _ = writeln!(text, "{name} {enable} {disable} {delete} {}", sum.digest);
        }
        text
    }

    /// What somebody approves; see the head of this file.
    pub fn digest(&self) -> String {
        let text = self.text();
        let mut digest: String = PARTS.iter().map(|(names, _)| hint(&text, names)).collect();
        digest.push_str(&sha256(&text));
        digest.truncate(DIGEST_CHARS);
        digest
    }

    /// What has to hold still when an interrupted run goes on.
    pub fn terms(&self) -> String {
        lines(&self.text(), &TERMS)
    }

    /// Which parts have changed since `digest` was made, in words; empty when that cannot
    /// be told.
    pub fn changed_since(&self, digest: &str) -> Vec<&'static str> {
        let text = self.text();
        let hints = digest.as_bytes().chunks(HINT_CHARS);
        let differs = PARTS.iter().zip(hints);
        differs
            .filter(|((names, _), then)| hint(&text, names).as_bytes() != *then)
            .map(|((_, words), _)| *words)
            .collect()
    }

    /// Which parts have changed since [`Plan::terms`] gave `terms`, in words.
    pub fn changed_from(&self, terms: &str) -> Vec<&'static str> {
        let now = self.terms();
        let differs = PARTS.iter().filter(|(names, _)| lines(terms, names) != lines(&now, names));
        differs.filter(|(names, _)| TERMS.contains(&names[0])).map(|(_, words)| *words).collect()
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Library;

    fn sum(jobs: &[(Status, &str)]) -> JobsSum {
        let mut summer = JobsSummer::default();
        for (status, id) in jobs {
            summer.add(*status, id);
        }
        summer.finish()
    }

    fn plan() -> Plan {
        Plan {
            app: App { sdkappid: 1_400_000_000, library: Library::Chitchat },
            endpoint: "host".to_owned(),
            endpoint_mark: "12345678".to_owned(),
            chunk: 100,
            again: false,
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
            waiting: sum(&[]),
            open: sum(&[(Status::Enable, "a"), (Status::Delete, "b")]),
            in_flight: 0,
            deletes: Vec::new(),
        }
    }

    #[test]
    fn the_text_and_the_digest_are_what_the_head_of_this_file_says() {
        let plan = plan();
        let jobs = sha256("enable a\ndelete b\n");
        let text = format!(
            "deskbatch plan 1\nsdkappid 1400000000\nlibrary chitchat\nendpoint host 12345678\nchunk 100\nagain no\n\
             file {}\nbatch new\nsuperseded 0\nwaiting 0 0 0 {}\njobs 1 0 1 {jobs}\n",
            "f".repeat(64),
            sha256("")
        );
        assert_eq!(plan.text(), text);
        let place = "sdkappid 1400000000\nlibrary chitchat\nendpoint host 12345678\n";
        let digest = plan.digest();
        assert_eq!(digest.len(), DIGEST_CHARS);
        assert_eq!(digest[..4], sha256(place)[..4]);
        assert_eq!(digest[16..], sha256(&text)[..48]);
    }

    /// What changes, and which of the parts that tells.
    type Change = (fn(&mut Plan), Option<usize>);

    #[test]
    fn every_change_of_content_changes_the_digest_and_is_told_where_it_can() {
        let approved = plan();
        let changes: [Change; 12] = [
            (|p| p.app.sdkappid += 1, Some(0)),
            (|p| p.app.library = Library::Faq, Some(0)),
            (|p| p.endpoint.push('2'), Some(0)),
            (|p| p.endpoint_mark.push('2'), Some(0)),
            (|p| p.chunk = 99, Some(1)),
            (|p| p.again = true, Some(1)),
            (|p| p.file.as_mut().unwrap().digest = "e".repeat(64), Some(2)),
            (|p| p.file = None, Some(2)),
            (|p| p.waiting = sum(&[(Status::Delete, "c")]), Some(3)),
            (|p| p.open = sum(&[(Status::Disable, "a"), (Status::Delete, "b")]), None),
            (|p| p.file.as_mut().unwrap().effect = Effect::Finished, None),
            (|p| p.file.as_mut().unwrap().superseded = 1, None),
        ];
        for (at, (change, part)) in changes.into_iter().enumerate() {
            let mut now = plan();
            change(&mut now);
            assert_ne!(now.digest(), approved.digest(), "change {at}");
            let words: Vec<&str> = part.into_iter().map(|part| PARTS[part].1).collect();
            assert_eq!(now.changed_since(&approved.digest()), words, "change {at}");
            let of_terms = part.filter(|part| *part < 3).map(|part| PARTS[part].1);
            let of_terms: Vec<&str> = of_terms.into_iter().collect();
            assert_eq!(now.changed_from(&approved.terms()), of_terms, "change {at}");
        }
        let mut same = plan();
        same.deletes.push("b".to_owned());
        same.in_flight = 1;
        same.file.as_mut().unwrap().name = "b.csv".to_owned();
        same.file.as_mut().unwrap().warnings.push("in other words".to_owned());
        assert_eq!(same.digest(), approved.digest());
    }
}
