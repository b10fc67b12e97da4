//! `run --plan DIGEST`: sends exactly what the approved plan has, and can be resumed.
//!
//! The plan is made again in the transaction that imports the file, so no other write comes between
//! the comparison and the import. The approval is stored with the jobs that it covers: the same
//! command line resumes after an interruption.

use std::fmt::Write as _;

use super::confirm::{Confirmation, Confirmed};
use super::context::{LockedQueue, RunContext};
use crate::cli::plan_line;
use crate::commands::arguments;
use crate::commands::error::CommandError;
use crate::commands::import::{ImportContext, NamedManifest, Staged, commit};
use crate::commands::plan::{PlanOptions, Proposal, propose};
use crate::domain::plan_digest::{DIGEST_CHARS, Plan};
use crate::queue::{Approval, Covers};
use crate::util::count::counted;

/// Imports what `digest` approves, or finds its remaining jobs.
pub(super) async fn confirm_by_digest(
    digest: &str,
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    import: &ImportContext,
) -> Result<Confirmation, CommandError> {
    let RunContext { settings, args, out, .. } = *ctx;
    let digest = read_digest(digest)?;
    // Stays true: only the holder of the run lock changes the jobs of an approval.
    let prior = locked.queue.find_approval(settings.app()?, &digest).await?;
    let options = PlanOptions { dry_run: false, deletes_max: 0 };
    let Proposal { staged, plan } =
        propose(settings, &locked.queue, args.file.as_deref(), &args.manifest, options, import)
            .await?;
    match decide(prior, &plan, &digest) {
        Decision::Resume(approval) => {
            staged.rollback().await?;
            out.info(&format!("resuming this plan: {} unfinished", counted(approval.open, "job")));
            let approval = Some((approval.id, Covers::Plan));
            Ok(Confirmation::Granted(Confirmed { approval, batch: None }))
        }
        Decision::Begin => begin(ctx, locked, staged, &plan, &digest).await,
        Decision::Complete(approval) => {
            staged.rollback().await?;
            let mut text = "nothing to do: this plan was executed before".to_owned();
            let [cancelled, _] = locked.queue.withdrawn_of_approval(approval.id).await?;
            if cancelled > 0 {
                let _ = write!(text, "; {} of it cancelled", counted(cancelled, "job"));
            }
            Ok(complete(&text, approval.failed, cancelled == 0))
        }
        Decision::Refuse(changed) => {
            staged.rollback().await?;
            Err(refused(&plan, &changed))
        }
    }
}

/// Approves the plan and commits the import, in one transaction.
async fn begin(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    mut staged: Staged,
    plan: &Plan,
    digest: &str,
) -> Result<Confirmation, CommandError> {
    let RunContext { args, out, .. } = *ctx;
    let (queue, file) = (&locked.queue, args.file.as_deref());
    let mut approval = None;
    if plan.open.total() > 0 {
        let conditions = plan.conditions();
        let id = staged.import.approve(&locked.lease, Covers::Plan, digest, &conditions).await?;
        approval = Some((id, Covers::Plan));
    }
    // `plan` has shown them before the approval, so they are no warnings of this run.
    for warning in &staged.read.warnings {
        out.info(&format!("warning: {warning}"));
    }
    let last_batch_before = queue.last_batch().await?;
    let mut batch = None;
    if file.is_some() {
        batch = commit(queue, staged, &args.manifest, out).await?;
    } else {
        staged.end_without_batch().await?;
    }
    if approval.is_some() {
        return Ok(Confirmation::Granted(Confirmed { approval, batch: None }));
    }
    let named = NamedManifest { file, batch, last_batch_before };
    match named.unfinished_reason(queue).await? {
        Some(reason) => Ok(complete(&reason, 0, false)),
        None => Ok(complete("nothing to do: the plan has no jobs", 0, true)),
    }
}

/// How a run with `--plan` proceeds.
enum Decision {
    /// The plan is unchanged: import, approve, send.
    Begin,
    /// It was begun before and has jobs left.
    Resume(Approval),
    /// It was begun before and has no jobs left.
    Complete(Approval),
    /// The plan differs; the parts that are known to have changed.
    Refuse(Vec<&'static str>),
}

/// Why a plan without remaining jobs is nevertheless not complete.
const RETRIED: &str = "jobs of it were retried or approved again since then";

/// An unfinished plan is resumed. A finished one begins again only with `--reimport`, which is part of
/// the digest.
fn decide(prior: Option<Approval>, plan: &Plan, digest: &str) -> Decision {
    match prior {
        Some(prior) if prior.open > 0 => match plan.diff_conditions(&prior.terms) {
            changed if changed.is_empty() => Decision::Resume(prior),
            changed => Decision::Refuse(changed),
        },
        _ if plan.digest() == digest => Decision::Begin,
        Some(prior) if !plan.reimport && plan.diff_conditions(&prior.terms).is_empty() => {
            let has_uncovered_jobs = prior.uncovered > 0 && plan.open.total() > 0;
            if has_uncovered_jobs {
                Decision::Refuse(vec![RETRIED])
            } else {
                Decision::Complete(prior)
            }
        }
        _ => Decision::Refuse(plan.diff_digest(digest)),
    }
}

fn complete(text: &str, failed: u64, is_done: bool) -> Confirmation {
    let mut text = text.to_owned();
    if failed > 0 {
        let _ = write!(text, "; {} of it failed", counted(failed, "job"));
    }
    Confirmation::Complete { text, failed, is_done }
}

fn refused(plan: &Plan, changed: &[&str]) -> CommandError {
    let what = if changed.is_empty() {
        "changed: the effect of importing the file".to_owned()
    } else {
        format!("changed: {}", changed.join("; "))
    };
    let [enable, disable, delete] = plan.open.counts;
    CommandError::Usage(format!(
        "the plan has changed since its digest was made. Nothing was imported or sent.\n\
         {what}\n\
         it now has {} ({enable} enable, {disable} disable, {delete} delete), {} of them from earlier imports\n\
         Review it with `{}`, and approve the new digest.",
        counted(plan.open.total(), "job"),
        plan.pending.total(),
        plan_line(&arguments())
    ))
}

fn read_digest(text: &str) -> Result<String, CommandError> {
    let digest = text.trim().to_ascii_lowercase();
    if digest.len() == DIGEST_CHARS && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digest);
    }
    Err(CommandError::Usage(format!(
        "--plan: {text:?} is not a digest. Nothing was sent. Copy the {DIGEST_CHARS} hex digits that `deskbatch plan` \
         prints."
    )))
}
