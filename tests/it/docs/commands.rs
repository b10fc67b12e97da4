//! No page names a command or flag that does not exist: the command-line parser reads every line that
//! begins with `deskbatch`, in a block or in backticks. `console.rs` and `recipes.rs` test what such
//! lines do.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};
use deskbatch::cli::Cli;

use crate::support::docs::{fences, pages, read};

/// Values for placeholders in capitals where a number or a path is not valid.
const PLACEHOLDERS: [(&str, &str); 6] = [
    ("DURATION", "1h"),
    ("STATUS", "enable"),
    ("CODE", "-50003"),
    ("KIND=CHANCE", "internal=0.1"),
    ("ADDRESS", "127.0.0.1:0"),
    ("URL", "http://127.0.0.1:1"),
];

/// Flags of other programs that the pages name.
const FOREIGN: &[&str] = &[
    "--locked",
    "--full",
    "--rows",
    "--collector.textfile.directory",
    "--path",
    "--ignored",
    "--nocapture",
    "--release",
    "--test",
    "--bench",
    "--svg",
    "--doc",
    "--open",
    "--seconds",
    "--musl",
    "--glibc",
    "--check",
    "--time",
    "--quick",
];

/// The words of each call of deskbatch in a shell line.
fn calls(line: &str) -> Vec<Vec<String>> {
    let line = line.replace("2>&1", "").replace("${", "$");
    let Some(words) = shlex::split(&line) else { return Vec::new() };
    let ends =
        |word: &str| matches!(word, "|" | "||" | "&&" | ";" | "&" | "then" | "do" | "fi" | "}");
    let mut found = Vec::new();
    let mut words = words.into_iter().peekable();
    let mut before = String::new();
    while let Some(word) = words.next() {
        // In `docker build --tag deskbatch` the word is a name and no command.
        let is_name = matches!(before.as_str(), "--tag" | "uninstall" | "-r" | "--unit");
        before.clone_from(&word);
        if is_name || word.rsplit('/').next() != Some("deskbatch") {
            continue;
        }
        let mut call = vec!["deskbatch".to_owned()];
        while let Some(next) = words.peek() {
            if ends(next) || next.contains('>') || next.starts_with('<') {
                break;
            }
            let last = next.ends_with(';');
            call.push(words.next().unwrap().trim_end_matches(';').to_owned());
            if last {
                break;
            }
        }
        found.push(call);
    }
    found
}

/// Replaces placeholders with values.
fn filled(word: &str) -> String {
    if let Some((_, value)) = PLACEHOLDERS.iter().find(|(name, _)| *name == word) {
        return (*value).to_owned();
    }
    let is_name = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if is_name || word.starts_with('$') { "1".to_owned() } else { word.to_owned() }
}

/// Shell lines in the blocks of a page. Continued lines are joined; prompts and comments are removed.
fn shell_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for fence in fences(page) {
        let shown = fence.language() == "console";
        if !matches!(fence.language(), "" | "sh" | "console" | "crontab") {
            continue;
        }
        for line in fence.text.replace("\\\n", " ").lines() {
            let line = match (shown, line.strip_prefix("$ ").or(line.strip_prefix("> "))) {
                (true, None) => continue,
                (true, Some(command)) => command,
                (false, _) => line,
            };
            let line = line.split(" #").next().unwrap_or_default().trim();
            if !line.starts_with('#') {
                lines.push(line.trim_start_matches("ExecStart=").to_owned());
            }
        }
    }
    lines
}

/// Text in backticks outside blocks.
fn in_backticks(page: &str) -> Vec<String> {
    let prose = page.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn docs_name_no_command_line_that_is_not_one() {
    let mut wrong = Vec::new();
    let mut read_lines = 0;
    for page in pages() {
        let text = read(&page);
        let spoken =
            in_backticks(&text).into_iter().filter(|words| words.starts_with("deskbatch "));
        for line in shell_lines(&text).into_iter().chain(spoken) {
            for call in calls(&line) {
                read_lines += 1;
                if call.len() == 1 || matches!(call[1].as_str(), "--version" | "--help" | "-h") {
                    continue;
                }
                if call.iter().any(|word| word == "--help" || word == "-h") {
                    continue;
                }
                let words: Vec<String> = call.iter().map(|word| filled(word)).collect();
                // `deskbatch help TOPIC` of a topic that exists is no error of the command line.
                if let Err(e) = Cli::try_parse_from(&words)
                    && e.kind() != ErrorKind::DisplayHelp
                {
                    let why = e.to_string();
                    wrong.push(format!("{page}: {line}\n    {}", why.lines().next().unwrap()));
                }
            }
        }
    }
    assert!(read_lines >= 60, "only {read_lines} lines were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn docs_name_no_flag_that_is_not_there() {
    fn collect(command: &Command, flags: &mut BTreeSet<String>) {
        let longs = command.get_arguments().filter_map(|arg| arg.get_long());
        flags.extend(longs.map(|long| format!("--{long}")));
        command.get_subcommands().for_each(|command| collect(command, flags));
    }
    let mut flags: BTreeSet<String> = FOREIGN.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend(["--help".to_owned(), "--version".to_owned()]);
    collect(&Cli::command(), &mut flags);
    let mut wrong = Vec::new();
    for page in pages() {
        for words in in_backticks(&read(&page)) {
            for word in words.split([' ', '=', ',']).filter(|word| word.starts_with("--")) {
                if word.len() > 2 && !flags.contains(word.trim_end_matches(['.', ')'])) {
                    wrong.push(format!("{page}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn deskbatch_commands_are_found_in_shell_line() {
    let found = |line| calls(line).into_iter().map(|call| call.join(" ")).collect::<Vec<_>>();
    assert_eq!(found("cd x && deskbatch run a.csv -y || mail"), ["deskbatch run a.csv -y"]);
    assert_eq!(found("export | deskbatch run - >log 2>&1"), ["deskbatch run -"]);
    assert_eq!(found("if /usr/bin/deskbatch run; then"), ["deskbatch run"]);
    assert_eq!(found("deskbatch retry; deskbatch run"), ["deskbatch retry", "deskbatch run"]);
    assert_eq!(found("docker run --rm deskbatch status"), ["deskbatch status"]);
    assert!(found("docker build --tag deskbatch .").is_empty());
    assert!(found("see deskbatch.toml").is_empty());
}
