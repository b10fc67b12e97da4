//! `deskbatch completions` and `deskbatch man`: what a shell and `man` want to have.

use super::whole_file::{IfThere, write_whole};
use super::{CommandError, Exit};
use crate::cli::{self, CompletionsArgs, ManArgs};
use crate::nearest::did_you_mean;
use crate::output::Output;
use crate::text::path_text;

/// Writes a shell's script to stdout.
pub(super) fn completions(args: &CompletionsArgs, out: &Output) -> Result<Exit, CommandError> {
    let script = cli::completions(args.shell);
    out.bytes(&script).map_err(CommandError::io("stdout cannot be written"))?;
    Ok(Exit::Done)
}

/// Writes one page to stdout, or all of them into a folder.
pub(super) fn man(args: &ManArgs, out: &Output) -> Result<Exit, CommandError> {
    let pages = cli::man_pages();
    if let Some(folder) = &args.dir {
        for page in &pages {
            let path = folder.join(page.file_name());
            write_whole(&path, &page.text, None, IfThere::Replace)
                .map_err(CommandError::output(&path))?;
        }
        out.say(&format!("{} pages are in {}", pages.len(), path_text(folder)));
        return Ok(Exit::Done);
    }
    let wanted = args.command.as_deref().map_or_else(
        || "deskbatch".to_owned(),
        |words| format!("deskbatch-{}", words.trim().replace(' ', "-")),
    );
    let Some(page) = pages.iter().find(|page| page.name == wanted) else {
        let asked = wanted.trim_start_matches("deskbatch-");
        let names: Vec<&str> =
            pages.iter().filter_map(|page| page.name.strip_prefix("deskbatch-")).collect();
        return Err(CommandError::Wrong(format!(
            "no command is called {asked}: {}deskbatch --help lists them",
            did_you_mean(asked, names)
        )));
    };
    out.bytes(&page.text).map_err(CommandError::io("stdout cannot be written"))?;
    Ok(Exit::Done)
}
