//! `deskbatch man`: one man page to stdout, or all of them into a directory.

use super::error::{CommandError, Exit};
use crate::cli::{self, ManArgs};
use crate::output::Output;
use crate::util::atomic_file::{IfExists, write_atomic};
use crate::util::count::counted;
use crate::util::escape::path_text;
use crate::util::suggest::did_you_mean;

/// Runs the command.
pub(super) fn man(args: &ManArgs, out: &Output) -> Result<Exit, CommandError> {
    let pages = cli::man_pages();
    if let Some(dir) = &args.dir {
        for page in &pages {
            let path = dir.join(page.file_name());
            write_atomic(&path, &page.text, None, IfExists::Replace)
                .map_err(CommandError::output(&path))?;
        }
        let written = counted(pages.len() as u64, "page");
        out.info(&format!("wrote {written} to {}", path_text(dir)));
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
        return Err(CommandError::Usage(format!(
            "{asked} is not a command{}: `deskbatch --help` lists the commands",
            did_you_mean(asked, names)
        )));
    };
    out.bytes(&page.text).map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}
