//! `run --plan DIGEST`: only what somebody has read is done, and it can be gone on with.
//!
//! The plan is made again in the transaction that imports the file, so nothing comes
//! between the comparison and the import. What was accepted is noted in the queue with the
//! jobs that it covers: the same command line goes on after an interruption.

use std::fmt::Write as _;

use super::CommandError;
use super::consent::{Asking, Consent, Given};
use super::import::commit;
use super::plan::{Making, Proposal, propose};
use super::standing::Named;
use crate::plan::{DIGEST_CHARS, Plan};
use crate::store::{Approval, Covers};

/// Imports what `digest` approves, or finds what is left of it.
pub(super) async fn take(digest: &str, asking: &Asking<'_>) -> Result<Consent, CommandError> {
    let Asking { settings, args, store, lock, ground } = *asking;
    let (digest, out) = (read_digest(digest)?, &ground.out);
    // No run but this one can change what is left of it: this one has the lock.
    let prior = store.find_approval(settings.app()?, &digest).await?;
    let how = Making { only_looks: false, deletes_max: 0 };
    let file = args.file.as_deref();
    let Proposal { mut staged, plan } =
        propose(settings, store, file, &args.manifest, how, ground).await?;
    match next(prior, &plan, &digest) {
        Next::GoOn(approval) => {
            staged.undo().await?;
            out.say(&format!(
                "this plan was begun before: {} of its jobs are still to be done",
                approval.left
            ));
            Ok(Consent::Given(Given { approval: Some((approval.id, Covers::Plan)), batch: None }))
        }
        Next::Begin => {
            let mut approval = None;
            if plan.open.total() > 0 {
                let terms = plan.terms();
                let noted = staged.import.approve(lock, Covers::Plan, &digest, &terms).await?;
                approval = Some((noted, Covers::Plan));
            }
            // They are part of what was approved.
            for warning in &staged.read.warnings {
                out.say(&format!("warning: {warning}"));
            }
            let last = store.last_batch().await?;
            let mut batch = None;
            if file.is_some() {
                batch = commit(store, staged, &args.manifest, out).await?;
            } else {
                staged.end_without_batch().await?;
            }
            if approval.is_some() {
                return Ok(Consent::Given(Given { approval, batch: None }));
            }
            let named = Named { file, batch, last };
            match named.missing(store).await? {
                Some(missing) => Ok(finished(&missing, 0, false)),
                None => Ok(finished("nothing to do, as the plan has it", 0, true)),
            }
        }
        Next::Done(approval) => {
            staged.undo().await?;
            let mut text =
                "this plan was begun before, and nothing of it is left to be done".to_owned();
            let [cancelled, _] = store.withdrawn_of(approval.id).await?;
            if cancelled > 0 {
                let _ = write!(text, "; {cancelled} of its jobs were cancelled");
            }
            Ok(finished(&text, approval.failed, cancelled == 0))
        }
        Next::Refuse(changed) => {
            staged.undo().await?;
            Err(refused(&plan, &changed))
        }
    }
}

/// What becomes of a run that was told to keep to a plan.
enum Next {
    /// The plan is as it was: import, note it, send.
    Begin,
    /// It was begun before and is not finished.
    GoOn(Approval),
    /// It was begun before and is finished.
    Done(Approval),
    /// It is another plan now; what has changed, as far as that can be told.
    Refuse(Vec<&'static str>),
}

/// Why a plan of which nothing is left has not been done all the same.
const RETRIED: &str = "jobs of it were retried or approved again since";

/// The decision. A plan that was begun and is not finished goes on, and begins again only
/// when nothing of it is left; with `--again` it is meant to begin again.
fn next(prior: Option<Approval>, plan: &Plan, digest: &str) -> Next {
    match prior {
        Some(prior) if prior.left > 0 => match plan.changed_from(&prior.terms) {
            changed if changed.is_empty() => Next::GoOn(prior),
            changed => Next::Refuse(changed),
        },
        _ if plan.digest() == digest => Next::Begin,
        Some(prior) if !plan.again && plan.changed_from(&prior.terms).is_empty() => {
            let may_wait = prior.uncovered > 0 && plan.open.total() > 0;
            if may_wait { Next::Refuse(vec![RETRIED]) } else { Next::Done(prior) }
        }
        _ => Next::Refuse(plan.changed_since(digest)),
    }
}

fn finished(text: &str, failed: u64, is_done: bool) -> Consent {
    let mut text = text.to_owned();
    if failed > 0 {
        let _ = write!(text, "; {failed} of its jobs failed");
    }
    Consent::Finished { text, failed, is_done }
}

fn refused(plan: &Plan, changed: &[&str]) -> CommandError {
    let what = if changed.is_empty() {
        "what the import of the file would do has changed".to_owned()
    } else {
        format!("changed: {}", changed.join("; "))
    };
    let [enable, disable, delete] = plan.open.counts;
    CommandError::Wrong(format!(
        "this is not the plan that was approved: nothing was imported, nothing was sent\n\
         {what}\n\
         it would send {enable} enable, {disable} disable, {delete} delete now, of which {} jobs wait in the queue \
         already\n\
         look at it with deskbatch plan, and approve that one",
        plan.waiting.total()
    ))
}

fn read_digest(text: &str) -> Result<String, CommandError> {
    let digest = text.trim().to_ascii_lowercase();
    if digest.len() == DIGEST_CHARS && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digest);
    }
    Err(CommandError::Wrong(format!(
        "--plan: {text:?} is not a digest: it has {DIGEST_CHARS} hex digits, as deskbatch plan prints them; nothing \
         was sent"
    )))
}
