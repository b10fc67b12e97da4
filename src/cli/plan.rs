//! `deskbatch plan`: its flags, and the command lines that it prints.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};

use super::help::without_variables;
use super::{Cli, Command, ManifestArgs};
use crate::util::escape::shell_word;

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The manifest: a CSV file, which may be gzipped; `-` is stdin
    pub file: Option<PathBuf>,

    /// List every question that would be deleted, not only the first ones
    #[arg(long)]
    pub all: bool,

    /// Print one JSON object, with every question that would be deleted
    #[arg(long)]
    pub json: bool,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,
}

/// The command line of the run that executes the plan with `digest`: `args`, without the program's
/// name, with `run` instead of `plan`. Settings from the environment or the file are not repeated.
pub fn run_line(args: &[OsString], digest: &str) -> String {
    let is_run = |command: &Command| matches!(command, Command::Run(_));
    rewrite(args, (command_word(args), "run"), is_run, &["--plan", digest])
}

/// The command line of the same plan with every delete named; `args` are those of a plan or of a run
/// that asks for confirmation.
pub fn all_line(args: &[OsString]) -> String {
    let is_plan = |command: &Command| matches!(command, Command::Plan(_));
    rewrite(args, (command_word(args), "plan"), is_plan, &["--all"])
}

/// The command of `args`: a plan is also made by `run --dry-run` and by a run that asks for confirmation.
fn command_word(args: &[OsString]) -> &'static str {
    if args.iter().any(|word| word == "plan") { "plan" } else { "run" }
}

/// `args` with another command and `more` appended.
fn rewrite(
    args: &[OsString],
    (from, to): (&str, &str),
    is_right: impl Fn(&Command) -> bool,
    more: &[&str],
) -> String {
    let is_plan_flag =
        |word: &OsString| ["--json", "--all", "--dry-run"].iter().any(|flag| word == flag);
    let words: Vec<OsString> = args.iter().filter(|word| !is_plan_flag(word)).cloned().collect();
    // The word may also be a flag's value, so each position is tried until the result parses.
    let positions = (0..words.len()).filter(|at| words[*at] == from);
    let mut lines = positions.map(|at| {
        let mut line = words.clone();
        line[at] = to.into();
        line
    });
    let parses = |line: &Vec<OsString>| {
        let line = std::iter::once(OsString::from("deskbatch")).chain(line.iter().cloned());
        let matches = without_variables(super::command()).try_get_matches_from(line);
        let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
        cli.is_ok_and(|cli| is_right(&cli.command))
    };
    let mut line = lines.find(parses).unwrap_or_else(|| vec![to.into()]);
    let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
    line.splice(end..end, more.iter().map(OsString::from));
    let words = line.iter().map(|word| shell_word(&word.to_string_lossy()).into_owned());
    std::iter::once("deskbatch".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_line_repeats_the_arguments_of_plan() {
        for (plan, run) in [
            ("plan", "run --plan D"),
            ("plan a.csv --json --all", "run a.csv --plan D"),
            ("--chunk 20 plan a.csv --reimport", "--chunk 20 run a.csv --reimport --plan D"),
            ("--database plan plan plan", "--database plan run plan --plan D"),
            ("plan --status delete -- -a.csv", "run --status delete --plan D -- -a.csv"),
            ("run --dry-run a.csv", "run a.csv --plan D"),
        ] {
            let words: Vec<OsString> = plan.split(' ').map(OsString::from).collect();
            assert_eq!(run_line(&words, "D"), format!("deskbatch {run}"), "{plan}");
        }
        let words = ["plan", "it's mine.csv"].map(OsString::from);
        assert_eq!(run_line(&words, "D"), r"deskbatch run 'it'\''s mine.csv' --plan D");
    }

    #[test]
    fn all_line_repeats_the_arguments() {
        for (words, line) in [
            ("plan a.csv --reimport", "plan a.csv --reimport --all"),
            ("--sandbox run a.csv", "--sandbox plan a.csv --all"),
            ("run --status delete -- -a.csv", "plan --status delete --all -- -a.csv"),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(all_line(&words), format!("deskbatch {line}"));
        }
    }
}
