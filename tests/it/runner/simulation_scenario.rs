//! The queue of a simulation and its commands: imports, cancels, retries. Triggers check that no
//! outcome changes, and the end is compared with the service.

use std::collections::{BTreeMap, BTreeSet};

use deskbatch::queue::{BatchId, Imported, SameManifest};
use fastrand::Rng;
use sqlx::Row as _;

use crate::runner::simulated_world::World;
use crate::support::queue::{NOW_MS, TestQueue};

/// Forbidden for every statement: changing an outcome, or settling a job that was not claimed.
const WATCH: &str = "
    CREATE TABLE retrying (n INTEGER);
    CREATE TRIGGER outcome_once BEFORE UPDATE ON jobs
      WHEN OLD.finished_ms IS NOT NULL
       AND (NEW.state IS NOT OLD.state OR NEW.finished_ms IS NOT OLD.finished_ms OR NEW.error_code IS NOT OLD.error_code
            OR NEW.error_info IS NOT OLD.error_info OR NEW.request_id IS NOT OLD.request_id OR NEW.attempts IS NOT OLD.attempts)
       AND NOT (OLD.state = 'failed' AND NEW.state = 'pending' AND EXISTS (SELECT 1 FROM retrying))
      BEGIN SELECT RAISE(ABORT, 'an outcome was changed'); END;
    CREATE TRIGGER answer_once BEFORE UPDATE ON requests WHEN OLD.verdict IS NOT NULL
      BEGIN SELECT RAISE(ABORT, 'an answer was recorded twice'); END;
    CREATE TABLE deletes_in_doubt (question TEXT, lost INTEGER) STRICT;
    CREATE TRIGGER doubted AFTER INSERT ON doubts WHEN NEW.open AND NEW.target_status = 6
      BEGIN INSERT INTO deletes_in_doubt VALUES (NEW.question_id, NEW.lost); END;
    CREATE TRIGGER doubted_again AFTER UPDATE ON doubts WHEN NEW.open AND NEW.target_status = 6
      BEGIN INSERT INTO deletes_in_doubt VALUES (NEW.question_id, NEW.lost); END;
    CREATE TRIGGER kept BEFORE DELETE ON jobs BEGIN SELECT RAISE(ABORT, 'a job was deleted'); END;";

/// A queue and its expected content.
pub struct Story {
    pub queue: TestQueue,
    questions: usize,
    imports: i64,
    batches: Vec<BatchId>,
}

impl Story {
    pub async fn new(random: &mut Rng) -> Self {
        let queue = TestQueue::idle().await;
        queue.sql(WATCH).await;
        Self { queue, questions: random.usize(5..120), imports: 0, batches: Vec::new() }
    }

    /// The process is gone, and the next one opens the file again. Statements that the old one had sent
    /// to the engine still complete, and no others.
    pub async fn crashed(&mut self) {
        self.queue.reopen().await;
    }

    /// Runs one command.
    pub async fn change(&mut self, random: &mut Rng) {
        let batch = random.choice(&self.batches).copied();
        match (random.u32(0..5), batch) {
            (3, Some(batch)) => {
                self.queue.cancel_batch(batch, NOW_MS).await.unwrap();
            }
            (4, Some(batch)) => {
                self.queue.sql("INSERT INTO retrying VALUES (1)").await;
                self.queue.retry_failed(&[], Some(batch)).await.unwrap();
                self.queue.sql("DELETE FROM retrying").await;
            }
            _ => self.import(random).await,
        }
    }

    /// Imports some of the questions. Some do not exist or are protected, and some are repeated.
    pub async fn import(&mut self, random: &mut Rng) {
        self.imports += 1;
        let bad = *random.choice(&[0, 0, 3, 30]).unwrap_or(&0);
        let rows: BTreeMap<String, &str> = (0..random.usize(1..=self.questions))
            .map(|_| {
                let number = random.usize(0..self.questions);
                // The number decides the kind, so that a question is of the same kind in every import.
                let kind = match number * 37 % 100 {
                    n if n < bad => "missing",
                    n if n < bad + 2 => "preset",
                    _ => "q",
                };
                let statuses = ["enable", "disable", "enable", "disable", "delete"];
                let status = *random.choice(&statuses).unwrap_or(&"enable");
                (format!("1-{kind}{number}"), status)
            })
            .collect();
        let text: Vec<String> = rows.iter().map(|(id, status)| format!("{id} {status}")).collect();
        let imported =
            self.queue.import_as(self.imports, &text.join(", "), SameManifest::Continues).await;
        if let Imported::New { batch, .. } = imported {
            self.batches.push(batch);
        }
    }

    /// Checks everything that must hold once no job is open. Returns the number of jobs.
    pub async fn check(&self, world: &World) -> i64 {
        self.queue.check_invariants().await;
        let open =
            "SELECT count(*) FROM jobs WHERE app_id = 1 AND state IN ('pending', 'in_flight')";
        assert_eq!(self.queue.figure(open).await, 0, "jobs are left");
        let jobs = self.queue.figure("SELECT count(*) FROM jobs WHERE batch_id > 2").await;
        let asked = "SELECT sum(jobs) FROM batches WHERE id > 2";
        assert_eq!(self.queue.figure(asked).await, jobs, "a job was lost");
        let unanswered = "SELECT count(*) FROM requests WHERE verdict IS NULL";
        assert_eq!(self.queue.figure(unanswered).await, 0, "a request has no verdict");
        self.check_outcomes(world).await;
        self.check_last_requests().await;
        jobs
    }

    /// The recorded outcomes match what the service did.
    async fn check_outcomes(&self, world: &World) {
        let rows = self
            .queue
            .ask(
                "SELECT question_id, target_status, state, is_latest,
                        response_lost OR (target_status = 6 AND question_id IN (SELECT question FROM deletes_in_doubt WHERE lost)),
                        error_code, coalesce(error_info, ''),
                        target_status = 6 AND question_id IN (SELECT question FROM deletes_in_doubt)
                 FROM jobs
                 WHERE app_id = 1 AND question_id NOT LIKE 'by-%' ORDER BY id",
            )
            .await;
        let mut once_deleted = BTreeSet::new();
        for row in &rows {
            let (question, status): (String, i64) = (row.get(0), row.get(1));
            let (state, newest): (&str, bool) = (row.get(2), row.get(3));
            let (lost, code): (bool, Option<i64>) = (row.get(4), row.get(5));
            let was_in_doubt: bool = row.get(7);
            let real = world.status_of(&question);
            let asked = match status {
                4 => "enabled",
                5 => "disabled",
                _ => "deleted",
            };
            if state == "succeeded" {
                // A delete found the question missing after an earlier delete lost its response.
                let gone = question.contains("missing") && status == 6 && code == Some(-50_003);
                assert!(!gone || lost, "{question} was never in doubt");
                assert!(real.is_some() || gone, "{question} succeeded and was never set");
                if newest && !gone {
                    assert_eq!(real.as_deref(), Some(asked), "{question} is not as recorded");
                }
            }
            if state == "failed" && !lost && !was_in_doubt {
                let bad = question.contains("missing")
                    || (question.contains("preset") && status == 6)
                    || once_deleted.contains(&question)
                    || (world.is_poison(&question)
                        && row.get::<&str, _>(6).starts_with("given up after"));
                assert!(bad, "{question} failed with {code:?} for no reason");
            }
            // This job may have deleted it, since a rejected request may have been applied too.
            if status == 6 && (state == "succeeded" || lost || was_in_doubt) {
                once_deleted.insert(question);
            }
        }
        self.check_doubts(world).await;
    }

    /// The service has the status of the last applied request. Otherwise the question is in doubt, and
    /// the status is one that some request asked for.
    async fn check_doubts(&self, world: &World) {
        let rows = self
            .queue
            .ask(
                "SELECT question_id, target_status, state, error_code, coalesce(request_id, 0)
                 FROM jobs WHERE app_id = 1 AND question_id NOT LIKE 'by-%' ORDER BY id",
            )
            .await;
        let named =
            |status: i64| ["enabled", "disabled", "deleted"][usize::try_from(status - 4).unwrap()];
        let mut recorded: BTreeMap<String, (i64, &str)> = BTreeMap::new();
        let mut possible: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let open = "SELECT question_id, target_status FROM doubts WHERE app_id = 1 AND open = 1";
        for row in self.queue.ask(open).await {
            possible.entry(row.get(0)).or_default().insert(named(row.get(1)));
        }
        for row in &rows {
            let (question, status, request): (String, i64, i64) =
                (row.get(0), row.get(1), row.get(4));
            let applied =
                row.get::<&str, _>(2) == "succeeded" && row.get::<Option<i64>, _>(3).is_none();
            if applied && recorded.get(&question).is_none_or(|(last, _)| *last < request) {
                recorded.insert(question.clone(), (request, named(status)));
            }
            possible.entry(question).or_default();
        }
        for (question, possible) in possible.into_iter().filter(|(of, _)| !of.starts_with("by-")) {
            let real = world.status_of(&question);
            let recorded = recorded.get(&question).map(|(_, word)| *word);
            // A delete that is found done is recorded with a code.
            let found_done = rows.iter().any(|row| {
                row.get::<&str, _>(0) == question
                    && row.get::<&str, _>(2) == "succeeded"
                    && row.get::<Option<i64>, _>(3).is_some()
            });
            let is_so = real.as_deref() == recorded
                || real.as_deref().is_some_and(|real| possible.contains(real))
                || (found_done && real.as_deref() == Some("deleted"));
            assert!(is_so, "{question} is {real:?}, recorded as {recorded:?}, may be {possible:?}");
        }
    }

    /// Nothing was sent after its outcome: the last request that carried a job is the one that settled
    /// it.
    async fn check_last_requests(&self) {
        let mut last: BTreeMap<i64, i64> = BTreeMap::new();
        for row in
            self.queue.ask("SELECT id, job_ids FROM requests WHERE run_id > 1 ORDER BY id").await
        {
            let (request, jobs): (i64, &str) = (row.get(0), row.get(1));
            for part in jobs.split(',') {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                for job in from.parse::<i64>().unwrap()..=to.parse().unwrap() {
                    last.insert(job, request);
                }
            }
        }
        let settled = "SELECT id, request_id FROM jobs
            WHERE app_id = 1 AND state IN ('succeeded', 'failed') AND question_id NOT LIKE 'by-%'";
        for row in self.queue.ask(settled).await {
            let (job, request): (i64, i64) = (row.get(0), row.get(1));
            assert_eq!(last.get(&job), Some(&request), "job {job} was sent after its outcome");
        }
    }
}
