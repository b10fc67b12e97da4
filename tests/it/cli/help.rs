//! The help texts: short help fits a screen, long help is complete, and the examples work.

use clap::{CommandFactory as _, Parser as _};
use deskbatch::cli::{Cli, command, settings};

use crate::support::binary::{ends, has};
use crate::support::place::{Place, data, said};

/// The columns of the narrowest usual terminal.
const COLUMNS: usize = 80;

fn help(args: &[&str]) -> String {
    let place = Place::new();
    let mut command = place.deskbatch(args);
    command.env("COLUMNS", COLUMNS.to_string());
    data(&ends(command, 0))
}

/// The names of every command, such as `config show`.
fn commands() -> Vec<Vec<String>> {
    fn add(command: &clap::Command, before: &[String], found: &mut Vec<Vec<String>>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let mut words = before.to_vec();
            words.push(below.get_name().to_owned());
            add(below, &words, found);
            found.push(words);
        }
    }
    let mut found = Vec::new();
    add(&command(), &[], &mut found);
    found
}

#[test]
fn short_help_matches_snapshot() {
    insta::assert_snapshot!("short_help", help(&["-h"]));
    insta::assert_snapshot!("short_help_of_run", help(&["run", "-h"]));
}

#[test]
fn short_help_fits_a_screen_and_no_line_is_too_wide() {
    let mut all = vec![Vec::new()];
    all.extend(commands());
    assert!(all.len() > 15, "{all:?}");
    for words in all {
        for flag in ["-h", "--help"] {
            let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
            args.push(flag);
            let text = help(&args);
            // A wrapped line cannot be copied as one command.
            let wide = text.lines().find(|line| line.chars().count() > COLUMNS);
            assert_eq!(wide, None, "{args:?}");
            let is_page = words == ["settings"] || flag == "--help";
            let most = if is_page { usize::MAX } else { 46 };
            assert!(text.lines().count() <= most, "{args:?}: {}\n{text}", text.lines().count());
        }
    }
}

#[test]
fn settings_page_lists_every_setting_without_values() {
    let place = Place::new();
    let mut command = place.deskbatch(&["help", "settings"]);
    command.env("DESKBATCH_ENDPOINT", "https://gateway.example/s3cret-path");
    let text = data(&ends(command, 0));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sandbox = help(&["sandbox", "--help"]);
    let sandbox = sandbox.split_whitespace().collect::<Vec<_>>().join(" ");
    let settings = settings();
    assert!(settings.len() > 40);
    let is_sandbox = |key: &str| key.starts_with("sandbox.");
    for setting in settings.iter().filter(|setting| !setting.is_secret()) {
        let names = [setting.flag.clone().unwrap(), format!("Variable {}", setting.variable)];
        if is_sandbox(&setting.key) {
            has(&sandbox, &[&names[0], &names[1]]);
        } else {
            has(&words, &[&names[0], &names[1]]);
        }
    }
    for secret in settings.iter().filter(|setting| setting.is_secret()) {
        has(&words, &[&secret.variable]);
    }
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(help(&["settings"]), help(&["settings", "--help"]));
}

#[test]
fn help_shows_only_settings_that_a_command_uses() {
    for (command, used, unused) in [
        ("run", &["--max-failures", "--lock-timeout", "--quiet"][..], &["--fault", "--addr"][..]),
        ("plan", &["--chunk", "--region"], &["--max-failures", "--on-finish", "--fault"]),
        ("import", &["--sdkappid", "--database"], &["--rate", "--region"]),
        ("status", &["--rate", "--config"], &["--identifier", "--timeout"]),
        ("report", &["--database", "--sandbox"], &["--region", "--identifier"]),
        ("init", &["--sdkappid", "--region", "--identifier"], &["--rate", "--fault"]),
        ("usersig", &["--usersig-lifetime"], &["--rate", "--chunk"]),
        ("sandbox", &["--fault", "--request-delay"], &["--chunk", "--max-failures"]),
        ("explain", &["--help"], &["--database", "--quiet", "--sandbox"]),
    ] {
        for flag in ["-h", "--help"] {
            let text = help(&[command, flag]);
            let text = text.split("Examples:").next().unwrap();
            let shows = |name: &str| text.split([' ', '\n', '[', ',']).any(|word| word == name);
            let is_long = flag == "--help";
            for name in used.iter().filter(|_| is_long) {
                assert!(shows(name), "{command} {flag} lacks {name}:\n{text}");
            }
            for name in unused {
                assert!(!shows(name), "{command} {flag} shows {name}:\n{text}");
            }
            assert!(!text.contains("Variable ") || command == "sandbox", "{command} {flag}");
        }
    }
}

#[test]
fn every_help_ends_with_valid_examples() {
    let mut all = vec![Vec::new()];
    all.extend(commands());
    for words in all.into_iter().filter(|words| *words != ["settings"]) {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let text = help(&args);
        let examples = text.split("Examples:\n").nth(1);
        let examples = examples.unwrap_or_else(|| {
            panic!("{words:?} has no examples: add them to src/cli/examples.rs")
        });
        let lines = examples.lines().take_while(|line| !line.is_empty());
        let lines: Vec<&str> = lines.filter(|line| !line.trim().starts_with('#')).collect();
        assert!(!lines.is_empty(), "{words:?}");
        for line in lines {
            for part in line.split(['|', '>', '(', ')']).flat_map(|part| part.split("&&")) {
                let part = part.trim().trim_end_matches('\'');
                if part.starts_with("deskbatch ") {
                    let parsed = Cli::try_parse_from(part.split_whitespace());
                    assert!(parsed.is_ok(), "{part}: {}", parsed.unwrap_err());
                }
            }
        }
    }
}

#[test]
fn help_lists_exit_codes() {
    let text = help(&["--help"]);
    let codes = text.split("Exit codes:\n").nth(1).unwrap();
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "70"] {
        let has_line = codes.lines().any(|line| line.trim_start().starts_with(code));
        assert!(has_line, "{code}\n{codes}");
    }
}

#[test]
fn every_setting_grouped_by_help_exists() {
    // A renamed setting would silently leave its help group.
    let mut command = command();
    command.build();
    let run = command.find_subcommand("run").unwrap();
    let headings: Vec<&str> = run.get_arguments().filter_map(clap::Arg::get_help_heading).collect();
    for heading in
        ["Files", "Account", "Requests", "When to stop", "Scheduled runs", "Output", "Sandbox"]
    {
        assert!(headings.contains(&heading), "{heading}: {headings:?}");
    }
    assert!(Cli::command().get_arguments().count() > 20);
}

#[test]
fn invalid_variable_value_is_reported_with_its_name() {
    let place = Place::new();
    let mut by_variable = place.deskbatch(&["status"]);
    by_variable.env("DESKBATCH_RATE", "fast");
    has(&said(&ends(by_variable, 2)), &["fast", "environment variable DESKBATCH_RATE"]);
    let mut by_flag = place.deskbatch(&["status", "--rate", "slow"]);
    by_flag.env("DESKBATCH_RATE", "5");
    let said = said(&ends(by_flag, 2));
    assert!(said.contains("slow") && !said.contains("DESKBATCH_RATE"), "{said}");
}
