//! `deskbatch init`: writes a commented configuration file, filled in from flags and answers.
//!
//! The template is deskbatch.example.toml, so the two cannot diverge. Each answer is validated
//! immediately, by the checks of a run. Never overwrites a file and never shows the key.

use std::fs;
use std::io;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use strum::VariantArray as _;

use super::error::{CommandError, Exit};
use crate::cli::{InitArgs, SANDBOX_TABLE, SettingSources};
use crate::config::Settings;
use crate::desk::Region;
use crate::output::Output;
use crate::util::atomic_file::{IfExists, PRIVATE, write_atomic};
use crate::util::escape::{path_text, shell_word};

/// The template, with example values.
const TEMPLATE: &str = include_str!("../../deskbatch.example.toml");

/// The key, the prompt, and the default answer.
const QUESTIONS: [(&str, &str, Option<&str>); 3] = [
    ("sdkappid", "SDKAppID of your app:", None),
    ("identifier", "UserID of an administrator of the app [administrator]:", Some("administrator")),
    ("region", "Region:", None),
];

/// Runs the command.
pub(super) fn init(
    args: &InitArgs,
    sources: &SettingSources,
    out: &Output,
) -> Result<Exit, CommandError> {
    let path = args.file.as_path();
    if path == Path::new("-") {
        return Err(CommandError::Usage(
            "init: cannot write to stdout, because the file may contain the secret key: name a file, e.g. deskbatch.toml"
                .to_owned(),
        ));
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(exists_already(path));
    }
    let mut answers = answers_from(sources)?;
    let mut secret = None;
    if out.can_ask() {
        ask_for_missing(&mut answers, out)?;
        secret = ask_for_key(out)?;
    }
    let text = filled_in(&answers, secret.as_ref());
    Settings::from_text(&text, false)?;
    write_new(path, text.as_bytes())?;
    out.info(&format!("created {}, readable only by its owner", path_text(path)));
    for what in missing_settings(&answers, secret.is_some()) {
        out.info(&format!("still missing: {what}"));
    }
    let named = if path == Path::new("deskbatch.toml") {
        String::new()
    } else {
        format!(" --config {}", shell_word(&path.to_string_lossy()))
    };
    out.info(&format!("next: deskbatch doctor{named}"));
    Ok(Exit::Done)
}

/// Keys with their values as text.
type Answers = Vec<(String, String)>;

/// The settings given by flags or variables, validated.
fn answers_from(sources: &SettingSources) -> Result<Answers, CommandError> {
    let in_file = |key: &&String| *key != "config" && !key.starts_with(SANDBOX_TABLE);
    let mut answers = Answers::new();
    for (key, (_, value)) in sources.iter().filter(|(key, _)| in_file(key)) {
        validate(key, value)?;
        answers.push((key.clone(), value.clone()));
    }
    Ok(answers)
}

fn ask_for_missing(answers: &mut Answers, out: &Output) -> Result<(), CommandError> {
    let has = |answers: &Answers, key: &str| answers.iter().any(|(known, _)| known == key);
    for (key, prompt, default) in QUESTIONS {
        if has(answers, key) || (key == "region" && has(answers, "endpoint")) {
            continue;
        }
        if key == "region" {
            for (at, region) in Region::VARIANTS.iter().enumerate() {
                out.warn(&format!("  {}  {region}", at + 1));
            }
        }
        answers.push((key.to_owned(), ask(key, prompt, default, out)?));
    }
    Ok(())
}

/// Asks until the answer is valid.
fn ask(
    key: &str,
    prompt: &str,
    default: Option<&str>,
    out: &Output,
) -> Result<String, CommandError> {
    loop {
        let Some(answer) = out.ask_line(prompt) else { return Err(aborted()) };
        let answer = match (answer.as_str(), default) {
            ("", Some(default)) => default.to_owned(),
            ("", None) => continue,
            _ if key == "region" => region_of(&answer),
            _ => answer,
        };
        match validate(key, &answer) {
            Ok(()) => return Ok(answer),
            Err(error) => out.warn(&error.text()),
        }
    }
}

/// The region's name, from its number in the list or any accepted spelling.
fn region_of(answer: &str) -> String {
    let at = answer.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    let listed = at.and_then(|at| Region::VARIANTS.get(at).copied());
    listed.or_else(|| answer.parse().ok()).map_or_else(|| answer.to_owned(), |r| r.to_string())
}

fn ask_for_key(out: &Output) -> Result<Option<SecretString>, CommandError> {
    let prompt = "Secret key, not shown (press Enter to set it later as DESKBATCH_SECRET_KEY):";
    let Some(secret) = out.ask_secret(prompt) else { return Err(aborted()) };
    Ok(Some(secret).filter(|secret| !secret.expose_secret().is_empty()))
}

fn aborted() -> CommandError {
    CommandError::Usage("aborted: nothing was written".to_owned())
}

/// Checks one value as a run does.
fn validate(key: &str, value: &str) -> Result<(), CommandError> {
    let line = line(key, value);
    let is_text = line.ends_with('"');
    if !is_text && value.parse::<f64>().is_err() && value.parse::<bool>().is_err() {
        return Err(CommandError::Usage(format!(
            "{key}: {value} is not a number: write digits only"
        )));
    }
    let settings = Settings::from_text(&line, false)
        .map_err(|e| CommandError::Usage(without_position(&e.to_string())))?;
    match key {
        "sdkappid" => drop(settings.app()?),
        "identifier" => drop(settings.identifier()?),
        _ => {}
    }
    Ok(())
}

/// Removes the line number, which means nothing for an answer.
fn without_position(error: &str) -> String {
    error.trim_start_matches("deskbatch.toml, line 1: ").to_owned()
}

/// `key = value`, quoted if the template's value is.
fn line(key: &str, value: &str) -> String {
    let starts = [format!("{key} = "), format!("# {key} = ")];
    let example = TEMPLATE
        .lines()
        .find_map(|line| starts.iter().find_map(|start| line.strip_prefix(start.as_str())));
    let is_text = example.is_none_or(|value| value.starts_with('"'));
    let value = if is_text { quoted(value) } else { value.to_owned() };
    format!("{key} = {value}")
}

fn quoted(text: &str) -> String {
    // Every JSON string is a TOML basic string.
    serde_json::Value::from(text).to_string()
}

/// The template with these values; example values of unanswered questions are commented out.
fn filled_in(answers: &Answers, secret: Option<&SecretString>) -> String {
    let mut answers = answers.clone();
    if let Some(secret) = secret {
        answers.push(("secret_key".to_owned(), secret.expose_secret().to_owned()));
    }
    let mut text = String::new();
    let mut in_sandbox = false;
    for old in TEMPLATE.lines() {
        in_sandbox |= old.trim_start_matches("# ") == format!("[{SANDBOX_TABLE}]");
        let key = old.trim_start_matches("# ").split(" = ").next().unwrap_or_default();
        let answer = answers.iter().position(|(known, _)| known == key && !in_sandbox);
        match answer.map(|at| answers.remove(at)) {
            Some((key, value)) => text.push_str(&with_comment(&line(&key, &value), old)),
            None if QUESTIONS.iter().any(|(asked, ..)| *asked == key) && !old.starts_with('#') => {
                text.push_str("# ");
                text.push_str(old);
            }
            None => text.push_str(old),
        }
        text.push('\n');
        // Keys that the template does not have follow the region.
        if key == "region" {
            let others: Answers = answers.extract_if(.., |(key, _)| !in_template(key)).collect();
            for (key, value) in others {
                text.push_str(&line(&key, &value));
                text.push('\n');
            }
        }
    }
    text
}

fn in_template(key: &str) -> bool {
    TEMPLATE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")))
}

/// Keeps the comment at the end of the template's line.
fn with_comment(new: &str, old: &str) -> String {
    match old.split_once("  #") {
        Some((_, comment)) => format!("{new:<32}#{comment}"),
        None => new.to_owned(),
    }
}

fn missing_settings(answers: &Answers, has_key: bool) -> Vec<String> {
    let has = |key: &str| answers.iter().any(|(known, _)| known == key);
    let asked = QUESTIONS.iter().map(|(key, ..)| *key);
    let unanswered = asked.filter(|key| !has(key) && (*key != "region" || !has("endpoint")));
    let mut missing: Vec<String> = unanswered
        .map(|key| format!("{key}: set it in the file, or set DESKBATCH_{}", key.to_uppercase()))
        .collect();
    if !has_key {
        missing.push(
            "the secret key: set secret_key in the file, or set DESKBATCH_SECRET_KEY".to_owned(),
        );
    }
    missing
}

/// Writes a new private file.
fn write_new(path: &Path, text: &[u8]) -> Result<(), CommandError> {
    match write_atomic(path, text, Some(PRIVATE), IfExists::Fail) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(exists_already(path)),
        written => written.map_err(CommandError::output(path)),
    }
}

fn exists_already(path: &Path) -> CommandError {
    CommandError::Usage(format!(
        "{} already exists. Nothing was written. Edit it, or create another file: deskbatch init FILE",
        path_text(path)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(pairs: &[(&str, &str)]) -> Answers {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_answered_lines_differ_from_the_template() {
        let text = filled_in(
            &answers(&[("sdkappid", "1400111222"), ("identifier", "ops"), ("region", "tokyo")]),
            None,
        );
        let differ = |(a, b): &(&str, &str)| a != b;
        let changed: Vec<&str> =
            text.lines().zip(TEMPLATE.lines()).filter(differ).map(|(new, _)| new).collect();
        assert_eq!(
            changed,
            ["sdkappid = 1400111222", "identifier = \"ops\"", "region = \"tokyo\""]
        );
        assert_eq!(text.lines().count(), TEMPLATE.lines().count());
        // Without an answer the example value is commented out.
        let text = filled_in(&Answers::new(), None);
        for line in ["# sdkappid = 1400000000", "# identifier = \"administrator\""] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn values_of_flags_are_written_and_load() {
        let text = filled_in(
            &answers(&[
                ("chunk", "20"),
                ("endpoint", "https://gate.example/a\"b"),
                ("library", "faq"),
                ("max_failures", "5"),
                ("quiet", "true"),
            ]),
            Some(&"it's \"quoted\" \\ key".into()),
        );
        for line in [
            "chunk = 20                      # maximum questions per request",
            "library = \"faq\"                 # chitchat or faq",
            "max_failures = \"5\"",
            "quiet = true",
            "# region = \"singapore\"",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
        }
        let settings = Settings::from_text(&text, false).unwrap();
        assert_eq!(settings.chunk(), 20);
        assert_eq!(settings.secret_key().unwrap().expose_secret(), "it's \"quoted\" \\ key");
    }
}
