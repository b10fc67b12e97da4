//! A run's consent: nobody's questions are deleted without a yes, given at a terminal, on the
//! command line, or by a plan's digest (`approved.rs`).

use std::path::Path;

use super::CommandError;
use super::expected::basis_of;
use super::import::{Staged, commit, stage};
use super::plan::{DELETES_SHOWN, Making, Proposal, plan_of, propose};
use super::reading::Importing;
use crate::cli::{RunArgs, all_line};
use crate::config::{Account, Settings};
use crate::output::plan_text;
use crate::plan::{Plan, deletes};
use crate::store::{ApprovalId, BatchId, Store};

/// What was agreed to before anything is sent.
pub(super) enum Consent {
    /// Nothing.
    Refused,
    /// Nothing is left of what was agreed to.
    Finished {
        /// What people are told.
        text: String,
        /// How many of its jobs have failed.
        failed: u64,
    },
    /// The run.
    Given {
        /// Deletes, if somebody was asked or said so beforehand. Without that, such as are
        /// imported while the run goes on stay pending.
        deletes: bool,
        /// The approval whose jobs alone are meant; `None`: everything that waits.
        approved: Option<ApprovalId>,
        /// The batch of the file that was named, be it new or imported before.
        batch: Option<BatchId>,
    },
}

/// Imports `file` unless the run is not wanted. Where a person has to be asked, the queue
/// is not kept waiting for the answer: the import is undone and done again.
pub(super) async fn import(
    settings: &Settings,
    args: &RunArgs,
    file: &Path,
    account: &Account,
    store: &Store,
    ground: &Importing,
) -> Result<Consent, CommandError> {
    let staged = || stage(store, account.app, file, &args.manifest, false, ground);
    let plan = async |staged: &mut Staged| {
        plan_of(settings, staged, Some(file), &args.manifest, DELETES_SHOWN).await
    };
    let mut first = staged().await?;
    let open = first.preview.open;
    if !must_ask(settings, args.yes, open) {
        let batch = commit(store, first, account.app, &args.manifest, &ground.out).await?;
        return Ok(agreed(settings, args.yes, open, batch));
    }
    let asked = plan(&mut first).await?;
    first.undo().await?;
    if file == Path::new("-") || !ground.out.can_ask() {
        return Err(needs_yes(open));
    }
    if !ask(settings, store, &asked, ground).await? {
        return Ok(Consent::Refused);
    }
    let mut staged = staged().await?;
    if plan(&mut staged).await?.digest() != asked.digest() {
        return Err(CommandError::Wrong(
            "the manifest or the queue changed while you were asked: nothing was imported, nothing was sent; \
             run again"
                .to_owned(),
        ));
    }
    let batch = commit(store, staged, account.app, &args.manifest, &ground.out).await?;
    Ok(agreed(settings, args.yes, asked.open.counts, batch))
}

/// Asks about deletes that wait in the queue, if there are any.
pub(super) async fn what_waits(
    settings: &Settings,
    args: &RunArgs,
    account: &Account,
    store: &Store,
    ground: &Importing,
) -> Result<Consent, CommandError> {
    let open = store.open_by_status(account.app).await?;
    if !must_ask(settings, args.yes, open) {
        return Ok(agreed(settings, args.yes, open, None));
    }
    if !ground.out.can_ask() {
        return Err(needs_yes(open));
    }
    let how = Making { only_looks: true, deletes_max: DELETES_SHOWN };
    let Proposal { staged, plan } =
        propose(settings, store, None, &args.manifest, how, ground).await?;
    staged.undo().await?;
    let yes = ask(settings, store, &plan, ground).await?;
    Ok(if yes { agreed(settings, args.yes, plan.open.counts, None) } else { Consent::Refused })
}

/// Shows the plan and asks.
async fn ask(
    settings: &Settings,
    store: &Store,
    plan: &Plan,
    ground: &Importing,
) -> Result<bool, CommandError> {
    let forecast = basis_of(settings, store, plan.app).await?.forecast(plan.open.counts);
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    ground.out.must_say(&plan_text(plan, &forecast, &all_line(&words)));
    ground.ask(format!("Delete {} questions?", plan.open.deletes())).await
}

/// After any question that was due: deletes are agreed to if there were some to ask about.
fn agreed(settings: &Settings, yes: bool, open: [u64; 3], batch: Option<BatchId>) -> Consent {
    let deletes = yes || settings.rehearsal || deletes(open) > 0;
    Consent::Given { deletes, approved: None, batch }
}

/// A rehearsal deletes nothing that anybody misses.
fn must_ask(settings: &Settings, yes: bool, open: [u64; 3]) -> bool {
    !yes && !settings.rehearsal && deletes(open) > 0
}

fn needs_yes(open: [u64; 3]) -> CommandError {
    CommandError::Wrong(format!(
        "this run would delete {} questions, and nobody is there to be asked: nothing was imported, nothing was \
         sent; look at it with deskbatch plan and run the line that it ends with, or add --yes to delete without a \
         question",
        deletes(open)
    ))
}
