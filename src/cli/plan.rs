//! `deskbatch plan`: its flags, and the command line that does what it showed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser as _};

use super::{Cli, Command, ManifestArgs};

/// `deskbatch plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A manifest: CSV, perhaps .gz; `-` is stdin
    pub file: Option<PathBuf>,

    /// Name every question that would be deleted, not the first few alone
    #[arg(long)]
    pub all: bool,

    /// One JSON object on stdout, with every question that would be deleted
    #[arg(long)]
    pub json: bool,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,
}

/// The command line that does what the plan with `digest` shows: the words of `args`, those
/// after the program's name, with `run` in the place of `plan`. What came from the
/// environment or the settings' file is still there.
pub fn run_line(args: &[OsString], digest: &str) -> String {
    let is_ours = |word: &OsString| word == "--json" || word == "--all";
    let words: Vec<OsString> = args.iter().filter(|word| !is_ours(word)).cloned().collect();
    // The word may be a flag's value as well: the command is where `run` makes a run.
    let places = (0..words.len()).filter(|at| words[*at] == "plan");
    let mut lines = places.map(|at| {
        let mut line = words.clone();
        line[at] = "run".into();
        line
    });
    let is_run = |line: &Vec<OsString>| {
        let line = std::iter::once(OsString::from("deskbatch")).chain(line.iter().cloned());
        matches!(Cli::try_parse_from(line), Ok(Cli { command: Command::Run(_), .. }))
    };
    let mut line = lines.find(is_run).unwrap_or_else(|| vec!["run".into()]);
    let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
    line.splice(end..end, ["--plan".into(), digest.into()]);
    let words = line.iter().map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("deskbatch".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,%+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_the_plan_word_for_word() {
        for (plan, run) in [
            ("plan", "run --plan D"),
            ("plan a.csv --json --all", "run a.csv --plan D"),
            ("--chunk 20 plan a.csv --again", "--chunk 20 run a.csv --again --plan D"),
            ("--database plan plan plan", "--database plan run plan --plan D"),
            ("plan --status delete -- -a.csv", "run --status delete --plan D -- -a.csv"),
        ] {
            let words: Vec<OsString> = plan.split(' ').map(OsString::from).collect();
            assert_eq!(run_line(&words, "D"), format!("deskbatch {run}"), "{plan}");
        }
        let words = ["plan", "it's mine.csv"].map(OsString::from);
        assert_eq!(run_line(&words, "D"), r"deskbatch run 'it'\''s mine.csv' --plan D");
    }
}
