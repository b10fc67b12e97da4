//! `deskbatch doctor`: what would keep a run from its work, found before it begins.
//!
//! A line for each thing that was looked at, and what to do where it is not well. Sends
//! nothing; a queue of an earlier version is brought up to date, as by any command.

use std::fmt::Write as _;

use super::{CommandError, Exit};
use crate::cli::DoctorArgs;
use crate::config::Settings;
use crate::output::Output;
use crate::store::{Store, StoreError};

/// How many pieces of damage are told.
const DAMAGE_SHOWN: usize = 5;

/// How damage begins that a recount mends.
const FIGURES: &str = "figures: ";

fn some_of(damage: &[String]) -> String {
    damage.iter().take(DAMAGE_SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// What came of one look.
struct Finding {
    exit: Exit,
    text: String,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Self { exit: Exit::Done, text: text.into() }
    }

    fn bad(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    fn of(error: &CommandError) -> Self {
        Self::bad(error.exit(), error.text())
    }
}

/// Runs the command. The exit code is that of the first thing that is not well.
pub(super) async fn doctor(
    settings: &Settings,
    args: &DoctorArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let findings = [("account", account(settings)), ("queue", queue(settings, args.recount).await)];
    let mut text = String::new();
    for (what, finding) in &findings {
        let how = if finding.exit == Exit::Done { "ok " } else { "bad" };
        let _ = writeln!(text, "{how}  {what:8}  {}", finding.text);
    }
    out.data(&text).map_err(CommandError::io("stdout cannot be written"))?;
    let bad = findings.iter().map(|(_, finding)| finding.exit).find(|exit| *exit != Exit::Done);
    Ok(bad.unwrap_or(Exit::Done))
}

/// Whether a run would know whose questions it changes, and could prove that it may.
fn account(settings: &Settings) -> Finding {
    match settings.account() {
        Ok(account) => {
            let endpoint =
                account.endpoint.map_or_else(|| "the sandbox".to_owned(), |e| e.to_string());
            Finding::good(format!(
                "application {}, library {}, as {}, at {endpoint}: complete; nothing was asked of the service",
                account.app.sdkappid, account.app.library, account.identifier
            ))
        }
        Err(error) => Finding::of(&error.into()),
    }
}

/// Whether the queue file is ours and whole. That there is none yet is well.
async fn queue(settings: &Settings, recounts: bool) -> Finding {
    let path = settings.database.display();
    // The first command that opens it makes a new queue of it.
    if std::fs::metadata(&settings.database).is_ok_and(|file| file.len() == 0) {
        let text = format!("{path} is empty: if there were jobs in it, restore it from a backup");
        return Finding::bad(Exit::Wrong, text);
    }
    let store = match Store::open_existing(&settings.database).await {
        Ok(store) => store,
        Err(StoreError::Missing(_)) => {
            return Finding::good(format!("{path} is not there yet: the first import makes it"));
        }
        Err(error) => return Finding::of(&error.into()),
    };
    let mended = if recounts { store.recount().await } else { Ok(Vec::new()) };
    let checked = match &mended {
        Ok(_) => store.check().await,
        Err(_) => Ok(Vec::new()),
    };
    store.close().await;
    let mended = match mended {
        Ok(mended) => mended.len(),
        Err(error) => return Finding::of(&error.into()),
    };
    match checked {
        Ok(damage) if damage.is_empty() && mended > 0 => Finding::good(format!(
            "{path} is whole; {mended} figures were wrong and were counted anew"
        )),
        Ok(damage) if damage.is_empty() => Finding::good(format!("{path} is whole")),
        Ok(damage) if damage.iter().all(|line| line.starts_with(FIGURES)) => {
            let text = format!(
                "{path} keeps wrong figures ({}): its jobs are whole; deskbatch doctor --recount counts them anew",
                some_of(&damage)
            );
            Finding::bad(Exit::Broken, text)
        }
        Ok(damage) => {
            let text = format!(
                "{path} is damaged ({}): keep a copy, restore it from a backup, or import the manifests into a new \
                 file (--database)",
                some_of(&damage)
            );
            Finding::bad(Exit::Broken, text)
        }
        Err(error) => Finding::of(&error.into()),
    }
}
