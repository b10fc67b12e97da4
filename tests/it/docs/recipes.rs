//! Every recipe of docs/cron.md does what the page says. `sh` runs the blocks in a folder that replaces
//! `/srv/desk`, with the binary on the path, a sandbox in deskbatch.toml, and a `mail` that keeps what
//! it gets. Nothing else of a block is changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID, Sandbox};

use crate::support::binary::{has, sandbox};
use crate::support::docs::{Fence, fences, read};
use crate::support::lease::acquire;
use crate::support::place::{Place, manifest, question};

const PAGE: &str = "docs/cron.md";

/// The folder name that the page shows.
const FOLDER: &str = "/srv/desk";

/// The result of a recipe.
#[derive(Debug)]
struct Came {
    code: i32,
    /// The output, which cron would mail.
    printed: String,
}

/// A folder with all files that the page requires.
struct Desk {
    place: Place,
    sandbox: Sandbox,
}

impl Desk {
    async fn new() -> Self {
        let (place, sandbox) = (Place::new(), sandbox().await);
        let settings = format!(
            "sdkappid = {SANDBOX_SDKAPPID}\nidentifier = \"{SANDBOX_IDENTIFIER}\"\nendpoint = \"{}\"\n\
             secret_key = \"{SANDBOX_KEY}\"\nrate = 200\n",
            sandbox.endpoint()
        );
        let file = place.write("deskbatch.toml", settings);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(place.path("bin")).unwrap();
        let desk = Self { place, sandbox };
        let mail = format!("#!/bin/sh\n{{ echo \"mail $*\"; cat; }} >>{FOLDER}/mails\n");
        desk.program("bin/mail", &mail);
        desk
    }

    /// Writes a manifest: a good question and, if `bad`, one that does not exist.
    fn asks(&self, name: &str, good: &str, bad: bool) {
        let (good, missing) = (question(good), question("missing1"));
        let mut rows = vec![(good.as_str(), "delete")];
        rows.extend(bad.then_some((missing.as_str(), "disable")));
        self.place.write(name, manifest(rows));
    }

    fn here(&self, text: &str) -> String {
        text.replace(FOLDER, &self.place.folder.path().display().to_string())
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.place.write(name, self.here(text));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs `script` in the shell, with the binary and the mail program first on the path.
    fn shell(&self, script: &str, path: Option<&str>) -> Came {
        let binary = Path::new(env!("CARGO_BIN_EXE_deskbatch")).parent().unwrap();
        let rest = path.map_or_else(|| std::env::var("PATH").unwrap(), str::to_owned);
        let path = format!("{}:{}:{rest}", self.place.path("bin").display(), binary.display());
        let mut command = Command::new("sh");
        for (name, _) in self.place.deskbatch(&[]).get_envs() {
            command.env_remove(name);
        }
        let output = command
            .args(["-c", &format!("exec 2>&1\n{}", self.here(script))])
            .current_dir(self.place.folder.path())
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        Came { code: output.status.code().unwrap(), printed }
    }

    /// Writes the files of the recipe `name` and returns the script to run.
    fn prepare(&self, name: &str) -> String {
        let mut script = None;
        for fence in recipes().into_iter().filter(|fence| fence.word("recipe") == Some(name)) {
            match fence.word("file") {
                Some(file) => {
                    self.program(file, &fence.text);
                    script.get_or_insert(format!("./{file}"));
                }
                None => script = Some(fence.text),
            }
        }
        script.unwrap_or_else(|| panic!("{PAGE} has no recipe {name}"))
    }

    fn recipe(&self, name: &str) -> Came {
        let script = self.prepare(name);
        self.shell(&script, None)
    }

    /// All mail so far.
    fn mails(&self) -> String {
        fs::read_to_string(self.place.path("mails")).unwrap_or_default()
    }

    fn done(&self, id: &str) -> bool {
        self.sandbox.question(&question(id)).is_some()
    }
}

fn recipes() -> Vec<Fence> {
    let is_recipe = |fence: &Fence| fence.word("recipe").is_some();
    fences(&read(PAGE)).into_iter().filter(is_recipe).collect()
}

#[track_caller]
fn silent(came: &Came) {
    assert_eq!((came.code, came.printed.as_str()), (0, ""), "{came:?}");
}

/// Parses a crontab like cron: the environment, and each job's command.
fn read_crontab(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut environment, mut jobs) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=')
            && name.chars().all(|c| c.is_ascii_uppercase())
        {
            environment.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let mut rest = line;
        for _ in 0..5 {
            let (field, after) = rest.split_once(' ').unwrap();
            assert!(field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c)), "{line}");
            rest = after.trim_start();
        }
        // A bare % ends the command, and cron passes the rest to stdin.
        let command = rest.replace("\\%", "\0");
        let command = command.split('%').next().unwrap().replace('\0', "%");
        jobs.push(command);
    }
    (environment, jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn crontab_mails_once_and_only_on_failure() {
    let desk = Desk::new().await;
    let (environment, jobs) = read_crontab(&desk.prepare("crontab"));
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str());
    assert!(environment.iter().any(|(name, _)| name == "MAILTO") && path.is_some());
    desk.asks("cleanup.csv", "q1", false);
    silent(&desk.shell(&jobs[0], path));
    assert!(desk.done("q1"));
    silent(&desk.shell(&jobs[1], path));
    // Five per cent of thirty are two. A limit of five would show that a bare % cut the line.
    let ids: Vec<String> = (0..30).map(|n| question(&format!("missing{n}"))).collect();
    desk.place.write("cleanup.csv", manifest(ids.iter().map(|id| (id.as_str(), "disable"))));
    let came = desk.shell(&jobs[0], path);
    assert_eq!(came.code, 3, "{came:?}");
    has(&came.printed, &["the limit of --max-failures is 2", "-50003"]);
}

#[test]
fn documented_crontab_equals_shipped_crontab() {
    let page = recipes().into_iter().find(|fence| fence.word("recipe") == Some("crontab")).unwrap();
    assert_eq!(read_crontab(&read("contrib/cron/deskbatch")), read_crontab(&page.text));
}

#[test]
fn cron_lines_have_no_unescaped_percent_sign() {
    for page in ["README.md", PAGE, "contrib/cron/deskbatch"] {
        let text = read(page);
        let starts = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
        for line in text.lines().filter(starts).filter(|line| line.contains("deskbatch ")) {
            assert!(!line.replace("\\%", "").contains('%'), "{page}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_script_mails_reason_once() {
    let desk = Desk::new().await;
    desk.asks("cleanup.csv", "q1", false);
    silent(&desk.recipe("exit-codes"));
    desk.asks("cleanup.csv", "q2", true);
    let came = desk.recipe("exit-codes");
    assert_eq!((came.code, came.printed.as_str()), (1, ""));
    let mail = desk.mails();
    has(&mail, &["mail -s deskbatch: some jobs failed (1) desk-team@example.com"]);
    has(&mail, &["Finished: 1 succeeded, 1 failed.", "missing1,disable,failed,-50003"]);
    let lease = acquire(&desk.place.path("deskbatch.db")).await;
    // The page waits for the other run; the test does not.
    let script = desk.prepare("exit-codes");
    let text = desk.place.read("nightly.sh");
    assert!(text.contains("--lock-timeout 10m"));
    desk.program("nightly.sh", &text.replace("--lock-timeout 10m", "--lock-timeout 0s"));
    silent(&desk.shell(&script, None));
    drop(lease);
    fs::remove_file(desk.place.path("cleanup.csv")).unwrap();
    assert_eq!(desk.recipe("exit-codes").code, 2);
    has(&desk.mails(), &["mail -s deskbatch: the run failed (2)"]);
    assert_eq!(desk.mails().matches("mail -s").count(), 2, "{}", desk.mails());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_finish_mails_summary_only_on_failure() {
    let desk = Desk::new().await;
    desk.asks("cleanup.csv", "q1", false);
    silent(&desk.recipe("on-finish"));
    assert_eq!(desk.mails(), "");
    desk.asks("cleanup.csv", "q2", true);
    let came = desk.recipe("on-finish");
    assert_eq!(came.code, 1);
    has(&came.printed, &["Finished: 1 succeeded, 1 failed."]);
    let mail = desk.mails();
    let (head, body) = mail.split_once('\n').unwrap();
    assert_eq!(head, "mail -s deskbatch ended with 1 desk-team@example.com");
    let reported: serde_json::Value = serde_json::from_str(body).unwrap();
    let page = read(PAGE);
    for key in ["exit", "meaning", "error", "database", "jobs", "run", "failed_jobs", "text"] {
        assert!(
            reported.get(key).is_some() && page.contains(&format!("`{key}`")),
            "{key}: {reported}"
        );
    }
    assert!(
        reported["run"]["ending"] == "drained" && reported["run"]["duration_ms"].is_u64(),
        "{reported}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_export_sends_nothing() {
    let desk = Desk::new().await;
    let header = "echo question_id,status\n";
    let row = |id| format!("echo {},delete\n", question(id));
    desk.program("export-questions", &format!("#!/bin/sh\n{header}{}", row("q1")));
    silent(&desk.recipe("export"));
    assert!(desk.done("q1"));
    silent(&desk.recipe("export"));
    let broken = format!("#!/bin/sh\n{header}{}exit 9\n", row("q2"));
    desk.program("export-questions", &broken);
    assert_eq!(desk.recipe("export").code, 9);
    assert!(!desk.done("q2"));
    desk.program("export-questions", &format!("#!/bin/sh\n{header}"));
    silent(&desk.recipe("export"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_come_from_a_pipe() {
    let desk = Desk::new().await;
    let ids = format!("#!/bin/sh\necho question_id\necho {}\n", question("q1"));
    desk.program("export-ids", &ids);
    silent(&desk.recipe("stdin"));
    assert!(desk.done("q1"));
    has(&desk.place.status()["batches"][0]["name"].to_string(), &["cleanup of 20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn approved_recipe_runs_only_approved_plan() {
    let desk = Desk::new().await;
    desk.asks("cleanup.csv", "q1", false);
    let script = desk.prepare("approved");
    let (plan, run) = script.split_once('\n').unwrap();
    let plan = desk.shell(plan, None);
    let digest = plan.printed.lines().rev().nth(2).unwrap();
    // The last line of a plan is the command to run, with the words in the plan's order.
    let last = plan.printed.lines().last().unwrap();
    has(last, &["deskbatch run cleanup.csv --reimport --plan", digest]);
    let run = run.replace("DIGEST", digest);
    silent(&desk.shell(&run, None));
    assert!(desk.done("q1"));
    desk.asks("cleanup.csv", "q2", false);
    assert_eq!(desk.shell(&run, None).code, 2);
    assert!(!desk.done("q2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn window_recipe_resumes_nightly_until_done() {
    let desk = Desk::new().await;
    let (one, other) = (question("q1"), question("q2"));
    desk.place.write("large.csv", manifest([(one.as_str(), "delete"), (other.as_str(), "delete")]));
    // The time window has no room for the second request, which leaves an hour later.
    let night = "deskbatch run large.csv --yes --quiet --max-duration 1s --rate 0.0003 --chunk 1";
    assert_eq!(desk.shell(night, None).code, 3);
    silent(&desk.recipe("window"));
    silent(&desk.recipe("window"));
    assert_eq!(desk.sandbox.ledger().total, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cron_jobs_on_one_queue_run_in_sequence() {
    let desk = Desk::new().await;
    for (file, id) in [("first.csv", "q1"), ("second.csv", "q2")] {
        desk.place.write(file, manifest([(question(id).as_str(), "enable")]));
    }
    silent(&desk.recipe("turns"));
    assert!(desk.done("q1") && desk.done("q2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_recipe_writes_one_json_object_per_line() {
    let desk = Desk::new().await;
    desk.asks("cleanup.csv", "q1", false);
    silent(&desk.recipe("json-log"));
    let log = desk.place.read("nightly.log");
    assert!(log.lines().count() >= 2);
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string(), "{line}");
    }
    has(&log, &["\"run ended\"", "\"target\":\"deskbatch::talk\""]);
    desk.asks("cleanup.csv", "q2", false);
    silent(&desk.recipe("log"));
    has(&desk.place.read("nightly.log"), &["Finished: 1 succeeded."]);
    assert!(!desk.place.read("nightly.log").contains(SANDBOX_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_with_a_log_still_mail_failures() {
    let desk = Desk::new().await;
    for name in ["log", "json-log", "on-finish"] {
        desk.asks("cleanup.csv", name, true);
        let came = desk.recipe(name);
        assert_eq!(came.code, 1, "{name}");
        has(&came.printed, &["Finished: 1 succeeded, 1 failed.", "-50003"]);
        let script = format!("export DESKBATCH_CHUNK=0\n{}", desk.prepare(name));
        let came = desk.shell(&script, None);
        assert_eq!(came.code, 2, "{name}");
        has(&came.printed, &["chunk: 0 is not between"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_service_uses_its_environment_file() {
    let desk = Desk::new().await;
    desk.asks("cleanup.csv", "q1", false);
    let unit = read("contrib/systemd/deskbatch.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let example = read("contrib/systemd/environment.example");
    let mut script = String::new();
    for line in example.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.split_once('=').unwrap();
        let value = match name {
            // The settings file of this folder has the account.
            "DESKBATCH_REGION" | "DESKBATCH_SECRET_KEY" => continue,
            _ => value.replace("/etc/deskbatch", FOLDER),
        };
        let _ = writeln!(script, "export {name}='{value}'");
    }
    let run = line.replace("/usr/bin/", "");
    let came = desk.shell(&format!("{script}{run}"), None);
    assert_eq!(came.code, 2, "a delete that nobody agreed to: {came:?}");
    let agreed = script.replace("OPTIONS='--reimport'", "OPTIONS='--reimport --yes'");
    silent(&desk.shell(&format!("{agreed}{run}"), None));
    assert!(desk.done("q1"));
}

#[test]
fn every_documented_recipe_has_a_test() {
    let page: BTreeSet<String> =
        recipes().iter().filter_map(|fence| fence.word("recipe")).map(str::to_owned).collect();
    let tests = include_str!("recipes.rs");
    for name in &page {
        let run = [format!("recipe(\"{name}\")"), format!("prepare(\"{name}\")")];
        assert!(run.iter().any(|run| tests.contains(run)), "{name} has no test");
    }
    assert!(page.len() >= 10, "{page:?}");
}
