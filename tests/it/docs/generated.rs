//! Pages generated from the program: every setting from the command-line definitions, every code from
//! the verdict table. The test compares them with the committed pages or rewrites them.

use std::fmt::Write as _;

use clap::{Arg, Command};
use deskbatch::cli::command;
use deskbatch::config::SECRET_VARIABLES;
use deskbatch::domain::verdict::{CODES, Class, CodeRow, UNKNOWN, Verdict};

use crate::support::docs::{hold_part, read};

/// The units of numbers whose value name does not include one.
const UNITS: [(&str, &str); 9] = [
    ("DURATION", "duration"),
    ("rate", "requests per second"),
    ("chunk", "questions"),
    ("max_in_flight", "requests"),
    ("max_attempts", "attempts"),
    ("max_rejections", "rejections"),
    ("max_failures", "jobs, or %"),
    ("rate_limit", "requests per second"),
    ("max_ids", "questions"),
];

/// The prefix of the variables for the sandbox.
const SANDBOX: &str = "DESKBATCH_SANDBOX_";

/// A setting as the command line defines it.
struct Setting {
    flag: String,
    variable: String,
    key: String,
    default: String,
    unit: String,
    meaning: String,
}

impl Setting {
    fn of(arg: &Arg) -> Option<Self> {
        let (flag, variable) = (arg.get_long()?, arg.get_env()?.to_string_lossy().into_owned());
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let (meaning, default) = match help.split_once(" [default: ") {
            Some((meaning, rest)) => (meaning.to_owned(), rest.trim_end_matches(']').to_owned()),
            None => (help.clone(), "none".to_owned()),
        };
        let key = flag.replace('-', "_");
        let value = arg.get_value_names().map(|names| names[0].to_string()).unwrap_or_default();
        let unit = UNITS.iter().find(|(name, _)| *name == value || *name == key);
        // The file cannot set its own path.
        let key = if key == "config" { String::new() } else { format!("`{key}`") };
        Some(Self {
            flag: format!("`--{flag}`"),
            variable: format!("`{variable}`"),
            key,
            default,
            unit: unit.map(|(_, unit)| (*unit).to_owned()).unwrap_or_default(),
            meaning: with_choices(&meaning, arg),
        })
    }

    fn row(&self) -> String {
        let Self { flag, variable, key, default, unit, meaning } = self;
        format!("| {flag} | {variable} | {key} | {default} | {unit} | {meaning} |\n")
    }
}

/// Appends the possible values that clap shows by itself, where the text has none.
fn with_choices(meaning: &str, arg: &Arg) -> String {
    let hidden = arg.is_hide_possible_values_set() || meaning.contains(": ");
    let choices: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| !hidden)
        .map(|value| value.get_name().to_owned())
        .collect();
    if choices.is_empty() {
        meaning.to_owned()
    } else {
        format!("{meaning}: {}", choices.join(" or "))
    }
}

/// Every setting of every command, each once, in the order of the help.
fn settings() -> Vec<Setting> {
    fn collect(command: &Command, found: &mut Vec<Setting>) {
        for setting in command.get_arguments().filter_map(Setting::of) {
            if !found.iter().any(|other| other.variable == setting.variable) {
                found.push(setting);
            }
        }
        command.get_subcommands().for_each(|command| collect(command, found));
    }
    let mut found = Vec::new();
    collect(&command(), &mut found);
    found
}

const HEAD: &str = "| flag | variable | key | default | unit | meaning |\n\
                    | --- | --- | --- | --- | --- | --- |\n";

#[test]
fn docs_list_every_setting_with_default_and_unit() {
    let is_sandbox = |setting: &&Setting| setting.variable.contains(SANDBOX);
    let (sandbox, all): (Vec<Setting>, Vec<Setting>) =
        settings().into_iter().partition(|setting| is_sandbox(&setting));
    assert!(all.len() > 20 && sandbox.len() > 15, "{} and {}", all.len(), sandbox.len());
    let table =
        |rows: &[Setting]| rows.iter().fold(HEAD.to_owned(), |text, setting| text + &setting.row());
    hold_part("docs/settings.md", "settings", &table(&all));
    hold_part("docs/settings.md", "sandbox", &table(&sandbox));
}

#[test]
fn docs_name_the_secrets_as_the_program_reads_them() {
    let (page, readme) = (read("docs/settings.md"), read("README.md"));
    let unit = read("contrib/systemd/deskbatch-failed@.service");
    for variable in SECRET_VARIABLES {
        assert!(readme.contains(&format!("`{variable}`")), "{variable} is not in README.md");
        let unset = unit.lines().find(|line| line.starts_with("UnsetEnvironment=")).unwrap();
        assert!(unset.contains(variable), "a mail program gets {variable}");
        let key = variable.trim_start_matches("DESKBATCH_").to_lowercase();
        assert!(page.contains(&format!("| `{variable}` | `{key}` |")), "{variable}");
    }
}

#[test]
fn docs_list_every_code_of_the_verdict_table() {
    let verdicts = [
        Verdict::Applied,
        Verdict::Throttled,
        Verdict::Transient,
        Verdict::Renew,
        Verdict::Rejected,
        Verdict::Stop,
    ];
    let mut text = String::new();
    let mut rows = 0;
    for verdict in verdicts {
        let of_verdict: Vec<&CodeRow> =
            CODES.iter().filter(|row| row.class.verdict() == verdict).collect();
        let _ = write!(text, "\n## {verdict}\n");
        // Classes of one verdict may differ in their consequences.
        let mut followed: Vec<String> = of_verdict.iter().map(|row| said(row.class)).collect();
        followed.sort();
        followed.dedup();
        for follows in followed {
            let _ = write!(text, "\nThe run {follows}.\n");
            text.push_str("\n| code | meaning | what to do |\n| --- | --- | --- |\n");
            for row in of_verdict.iter().filter(|row| said(row.class) == follows) {
                let _ = writeln!(text, "| {} | {} | {} |", row.codes(), row.meaning, row.advice);
                rows += 1;
            }
        }
    }
    assert_eq!(rows, CODES.len(), "a verdict has no section");
    let _ = write!(
        text,
        "\n## Any other code\n\nThe run {}.\n\nMeaning: {}. What to do: {}.\n\n",
        said(UNKNOWN.class),
        UNKNOWN.meaning,
        UNKNOWN.advice
    );
    hold_part("docs/codes.md", "codes", &text);
}

fn said(class: Class) -> String {
    class.consequence().to_owned()
}
