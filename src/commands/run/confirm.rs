//! Confirmation of deletes: a run sends the deletes that its plan has shown, and no others.
//!
//! They are confirmed at a terminal, by `--yes`, by a sandbox run, or by a plan's digest
//! (`with_plan.rs`). Each way marks them with an approval in the transaction that makes the plan
//! and imports the file, so no other write comes between. A delete that is imported or retried
//! later has no mark and stays pending.

use std::path::Path;

use super::context::{LockedQueue, RunContext};
use crate::cli::{all_line, plan_line};
use crate::commands::arguments;
use crate::commands::error::CommandError;
use crate::commands::eta;
use crate::commands::import::{ImportContext, Staged, commit, stage, warn};
use crate::commands::plan::{DELETES_SHOWN, plan_of, review};
use crate::domain::plan_digest::{Plan, deletes};
use crate::manifest::can_be_read_again;
use crate::output::plan_text;
use crate::queue::{ApprovalId, BatchId, Covers};
use crate::util::count::counted;
use crate::util::escape::path_text;

/// The result of asking whether a run may begin.
pub(super) enum Confirmation {
    /// The user said no.
    Declined,
    /// The approved plan has no job left to send.
    Complete {
        /// The message for the user.
        text: String,
        /// Jobs of the plan that failed.
        failed: u64,
        /// Whether the plan is done, apart from those.
        is_done: bool,
    },
    /// The run may begin.
    Granted(Confirmed),
}

/// What a confirmed run works on.
pub(super) struct Confirmed {
    /// The approval of its deletes, or of all that it sends; `None`: nothing needed one.
    pub(super) approval: Option<(ApprovalId, Covers)>,
    /// The batch of the named file, new or imported before.
    pub(super) batch: Option<BatchId>,
}

/// Imports the file, if one is named, and approves the pending deletes. If the user must be asked, no
/// transaction stays open meanwhile: the import is rolled back and repeated after the answer, and its
/// plan is compared with the one that was shown.
pub(super) async fn confirm_pending(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    import: &ImportContext,
) -> Result<Confirmation, CommandError> {
    let RunContext { settings, args, out, .. } = *ctx;
    let open = locked.queue.open_by_status(settings.app()?).await?;
    if args.file.is_none() && deletes(open) == 0 {
        return Ok(Confirmation::Granted(Confirmed { approval: None, batch: None }));
    }
    let mut first = stage_file(ctx, locked, import).await?;
    let plan = plan_with_deletes(ctx, &mut first).await?;
    let shown = match plan {
        Some(plan) if !args.yes && !settings.is_sandbox_run => plan,
        plan => {
            warn(&first, out);
            return approve_and_commit(ctx, locked, first, plan.as_ref()).await;
        }
    };
    let read_once = args.file.as_deref().filter(|file| !can_be_read_again(file));
    if read_once.is_some() || !out.can_ask() {
        warn(&first, out);
        first.rollback().await?;
        return Err(
            read_once.map_or_else(|| needs_yes(&shown), |file| cannot_ask_about(file, &shown))
        );
    }
    first.rollback().await?;
    if !ask(ctx, locked, import, &shown).await? {
        return Ok(Confirmation::Declined);
    }
    let mut again = stage_file(ctx, locked, import).await?;
    let plan = make_plan(ctx, &mut again).await?;
    if plan.digest() != shown.digest() {
        again.rollback().await?;
        return Err(CommandError::Usage(
            "the manifest or the queue has changed since the plan was shown. Nothing was imported or sent. Run again."
                .to_owned(),
        ));
    }
    approve_and_commit(ctx, locked, again, Some(&plan)).await
}

/// The named file in an open import; without a file, the queue in an open transaction.
async fn stage_file(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    import: &ImportContext,
) -> Result<Staged, CommandError> {
    let RunContext { settings, args, .. } = *ctx;
    match &args.file {
        Some(file) => stage(&locked.queue, settings, file, &args.manifest, false, import).await,
        None => review(settings, &locked.queue).await,
    }
}

async fn make_plan(ctx: &RunContext<'_>, staged: &mut Staged) -> Result<Plan, CommandError> {
    let RunContext { settings, args, .. } = *ctx;
    plan_of(settings, staged, args.file.as_deref(), &args.manifest, DELETES_SHOWN).await
}

/// The plan, if it has deletes. Counts them first, since a plan reads every pending job.
async fn plan_with_deletes(
    ctx: &RunContext<'_>,
    staged: &mut Staged,
) -> Result<Option<Plan>, CommandError> {
    if deletes(staged.import.open_by_status().await?) == 0 {
        return Ok(None);
    }
    let plan = make_plan(ctx, staged).await?;
    Ok((plan.open.deletes() > 0).then_some(plan))
}

/// Shows the plan and asks for a yes.
async fn ask(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    import: &ImportContext,
    plan: &Plan,
) -> Result<bool, CommandError> {
    let inputs = eta::inputs_of(ctx.settings, &locked.queue, plan.app).await?;
    let estimate = inputs.estimate(plan.open.counts);
    ctx.out.warn(&plan_text(plan, &estimate, all_line(&arguments()).as_deref()));
    import.ask(format!("Delete {}?", counted(plan.open.deletes(), "question"))).await
}

/// Approves the deletes of `plan` and commits the import, in one transaction.
async fn approve_and_commit(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    mut staged: Staged,
    plan: Option<&Plan>,
) -> Result<Confirmation, CommandError> {
    let RunContext { args, out, .. } = *ctx;
    let mut approval = None;
    if let Some(plan) = plan {
        let (digest, conditions) = (plan.digest(), plan.conditions());
        let lease = &locked.lease;
        let id = staged.import.approve(lease, Covers::Deletes, &digest, &conditions).await?;
        approval = Some((id, Covers::Deletes));
    }
    let batch = if args.file.is_some() {
        commit(&locked.queue, staged, &args.manifest, out).await?
    } else {
        staged.end_without_batch().await?;
        None
    };
    Ok(Confirmation::Granted(Confirmed { approval, batch }))
}

/// A confirmation reads the file twice, before and after the question.
fn cannot_ask_about(file: &Path, plan: &Plan) -> CommandError {
    CommandError::Usage(format!(
        "refusing to delete {} without confirmation: {} can be read only once, and a confirmation reads the manifest \
         twice. Nothing was imported or sent. Save the manifest as a file, or add --yes to delete without confirmation.",
        counted(plan.open.deletes(), "question"),
        if file == Path::new("-") { "stdin".to_owned() } else { path_text(file) }
    ))
}

fn needs_yes(plan: &Plan) -> CommandError {
    CommandError::Usage(format!(
        "refusing to delete {} without confirmation: there is no terminal to ask on. Nothing was imported or sent. \
         Review with `{}` and run its last line, or add --yes to delete without confirmation.",
        counted(plan.open.deletes(), "question"),
        plan_line(&arguments())
    ))
}
