//! `deskbatch plan`: its flags, and the command lines that it prints.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};

use super::defaults::{SANDBOX_TABLE, SettingSources, sources};
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

/// The command line of the run that executes the plan with `digest`; `args` are those of `plan` or of
/// `run --dry-run`, without the program's name. Settings from the environment or the file are not repeated.
pub fn run_line(args: &[OsString], digest: &str) -> String {
    let more = ["--plan", digest];
    rewrite(args, "run", &more).unwrap_or_else(|| format!("deskbatch run {}", more.join(" ")))
}

/// The command line of the same plan with every delete named; `args` are those of a plan or of a run
/// that asks for confirmation. `None` if there is none.
pub fn all_line(args: &[OsString]) -> Option<String> {
    rewrite(args, "plan", &["--all"])
}

/// The command line that shows the plan of a run; `args` are those of the run.
pub fn plan_line(args: &[OsString]) -> String {
    rewrite(args, "plan", &[]).unwrap_or_else(|| "deskbatch plan".to_owned())
}

/// `args` with the command `to`, without the flags that it does not have, and with `more` appended. `None`
/// unless the result works on the same file, in the same way, with the same settings.
fn rewrite(args: &[OsString], to: &str, more: &[&str]) -> Option<String> {
    let command = without_variables(super::command());
    let original = Subject::of(&command, args)?;
    let words = without_flags(args, &flags_to_drop(&command, original.command, to));
    // The word may also be a file or the value of a flag, so each position is tried.
    let positions = (0..words.len()).filter(|at| words[*at] == original.command);
    let mut lines = positions.map(|at| {
        let mut line = words.clone();
        line[at] = to.into();
        line
    });
    let mut line = lines.find(|line| {
        Subject::of(&command, line).is_some_and(|subject| subject.is_same(&original, to))
    })?;
    let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
    line.splice(end..end, more.iter().map(OsString::from));
    let words = line.iter().map(|word| shell_word(&word.to_string_lossy()).into_owned());
    Some(std::iter::once("deskbatch".to_owned()).chain(words).collect::<Vec<_>>().join(" "))
}

/// What a command line works on.
struct Subject {
    command: &'static str,
    file: Option<PathBuf>,
    manifest: String,
    is_sandbox_run: bool,
    /// The settings that flags give, without those of the sandbox.
    settings: SettingSources,
}

impl Subject {
    fn of(command: &clap::Command, args: &[OsString]) -> Option<Self> {
        let words = std::iter::once(OsString::from("deskbatch")).chain(args.iter().cloned());
        let matches = command.clone().try_get_matches_from(words).ok()?;
        let cli = Cli::from_arg_matches(&matches).ok()?;
        let (command, file, manifest) = match cli.command {
            Command::Plan(args) => ("plan", args.file, args.manifest),
            Command::Run(args) => ("run", args.file, args.manifest),
            _ => return None,
        };
        let mut settings = sources(&matches);
        settings.retain(|key, _| !key.starts_with(SANDBOX_TABLE));
        let manifest = format!("{manifest:?}");
        Some(Self { command, file, manifest, is_sandbox_run: cli.sandbox, settings })
    }

    fn is_same(&self, other: &Self, command: &str) -> bool {
        self.command == command
            && self.file == other.file
            && self.manifest == other.manifest
            && self.is_sandbox_run == other.is_sandbox_run
            && self.settings == other.settings
    }
}

/// The flags of the command `from` that `to` does not have, and whether each takes a value. A line to paste
/// is never a dry run.
fn flags_to_drop(command: &clap::Command, from: &str, to: &str) -> Vec<(Vec<String>, bool)> {
    let args = |name: &str| {
        command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments)
    };
    let is_known = |id: &clap::Id| *id != "dry_run" && args(to).any(|arg| arg.get_id() == id);
    let dropped = args(from).filter(|arg| !is_known(arg.get_id()));
    let names = dropped.map(|arg| {
        let long = arg.get_long().map(|name| format!("--{name}"));
        let short = arg.get_short().map(|name| format!("-{name}"));
        let has_value = arg.get_action().takes_values() && !arg.is_require_equals_set();
        (long.into_iter().chain(short).collect(), has_value)
    });
    names.collect()
}

fn without_flags(args: &[OsString], flags: &[(Vec<String>, bool)]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word.clone());
            kept.extend(words.cloned());
            break;
        }
        let text = word.to_string_lossy();
        let name = text.split('=').next().unwrap_or_default();
        match flags.iter().find(|(names, _)| names.iter().any(|flag| flag == name)) {
            Some((_, true)) if name == text => drop(words.next()),
            Some(_) => {}
            None => kept.push(word.clone()),
        }
    }
    kept
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
            ("run --sandbox --dry-run plan", "run --sandbox plan --plan D"),
            ("--database plan run plan --dry-run m.csv", "run --plan D"),
            ("--database plan run --dry-run run", "--database plan run run --plan D"),
            (
                "run a.csv --sandbox --dry-run --fault throttle=0.1",
                "run a.csv --sandbox --fault throttle=0.1 --plan D",
            ),
        ] {
            let words: Vec<OsString> = plan.split(' ').map(OsString::from).collect();
            assert_eq!(run_line(&words, "D"), format!("deskbatch {run}"), "{plan}");
        }
        let words = ["plan", "it's mine.csv"].map(OsString::from);
        assert_eq!(run_line(&words, "D"), r"deskbatch run 'it'\''s mine.csv' --plan D");
    }

    #[test]
    fn plan_line_leaves_out_what_only_a_run_has() {
        for (words, line) in [
            ("run a.csv --quiet --plan D", "plan a.csv --quiet"),
            ("--sandbox run --plan=D a.csv -y", "--sandbox plan a.csv"),
            ("run --dry-run a.csv", "plan a.csv"),
            ("run run --sandbox --fault throttle=0.1 --seed=4", "plan run --sandbox"),
            ("run --same-service plan", "plan plan"),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(plan_line(&words), format!("deskbatch {line}"));
        }
    }

    #[test]
    fn all_line_repeats_the_arguments() {
        for (words, line) in [
            ("plan a.csv --reimport", "plan a.csv --reimport --all"),
            ("--sandbox run a.csv", "--sandbox plan a.csv --all"),
            ("run --status delete -- -a.csv", "plan --status delete --all -- -a.csv"),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(all_line(&words), Some(format!("deskbatch {line}")));
        }
    }
}
