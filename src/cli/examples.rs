//! The examples of each command and the exit codes, for the end of `--help` and the man pages.

/// The exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0   finished, or nothing to do
  1   finished, but some jobs failed: read the report
  2   invalid command line, configuration or manifest, or a plan that has
      changed: nothing was sent; correct it
  3   stopped early, jobs are pending: run again
  4   the service rejects the app, the account or every request: read the
      message, run again
  5   another run is active, nothing was imported or sent: run again later
  70  internal error or system failure, e.g. a full disk: read the message";

/// Where settings come from.
const ABOUT_SETTINGS: &str = "\
Settings come from flags, environment variables and deskbatch.toml, in this
order of precedence. `deskbatch config show` prints the effective ones.";

/// By command: examples, each a description and a command line.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "deskbatch",
        &[
            (
                "try it against a local sandbox, without an account",
                "deskbatch run jobs.csv --sandbox",
            ),
            ("create a configuration file and check it", "deskbatch init && deskbatch doctor"),
            ("show what a run would do, without sending anything", "deskbatch plan jobs.csv"),
            ("run it", "deskbatch run jobs.csv"),
        ],
    ),
    (
        "deskbatch run",
        &[
            (
                "try it against a local sandbox, without an account",
                "deskbatch run jobs.csv --sandbox",
            ),
            (
                "the same with 1 of 20 requests throttled",
                "deskbatch run jobs.csv --sandbox --fault throttle=0.05",
            ),
            ("import and send; asks before it deletes", "deskbatch run jobs.csv"),
            ("resume after an interrupted run", "deskbatch run"),
            ("delete every id in a file", "deskbatch run ids.csv --status delete"),
            (
                "every night, from cron",
                "deskbatch run cleanup.csv --reimport --yes --quiet --max-failures 5%",
            ),
        ],
    ),
    (
        "deskbatch dashboard",
        &[
            ("serve http://127.0.0.1:8048/ until Ctrl-C", "deskbatch dashboard"),
            ("on a free port, which it prints", "deskbatch dashboard --addr 127.0.0.1:0"),
            ("only during one run", "deskbatch run --dashboard 127.0.0.1:8048"),
        ],
    ),
    (
        "deskbatch plan",
        &[
            ("what a run would do with a file and the pending jobs", "deskbatch plan jobs.csv"),
            ("every question that would be deleted", "deskbatch plan jobs.csv --all"),
            ("for a program", "deskbatch plan jobs.csv --json"),
        ],
    ),
    (
        "deskbatch import",
        &[
            ("add a file to the queue; sends nothing", "deskbatch import jobs.csv"),
            (
                "skip invalid rows and save them with the reason",
                "deskbatch import jobs.csv --rejects invalid.csv",
            ),
            ("one target status for all rows", "deskbatch import ids.csv --status disable"),
            ("from another program", "zcat export.csv.gz | deskbatch import - --name export"),
        ],
    ),
    (
        "deskbatch status",
        &[
            ("counts, rate and ETA", "deskbatch status"),
            ("follow a run of another terminal", "deskbatch status --watch"),
            ("for a program", "deskbatch status --json"),
        ],
    ),
    (
        "deskbatch report",
        &[
            ("the outcome of every job", "deskbatch report -o outcomes.csv"),
            (
                "the failed jobs, as a manifest to correct",
                "deskbatch report --state failed -o failed.csv",
            ),
            ("for a program", "deskbatch report --format json"),
        ],
    ),
    (
        "deskbatch retry",
        &[
            ("all failed jobs", "deskbatch retry && deskbatch run"),
            ("only those with one error code", "deskbatch retry --code -50003"),
        ],
    ),
    ("deskbatch cancel", &[("the pending jobs of batch 3", "deskbatch cancel --batch 3")]),
    (
        "deskbatch prune",
        &[
            ("show what would be deleted", "deskbatch prune --older-than 90d --dry-run"),
            ("delete it", "deskbatch prune --older-than 90d"),
        ],
    ),
    (
        "deskbatch init",
        &[
            ("on a terminal; asks for the account", "deskbatch init"),
            ("from a script", "deskbatch init --sdkappid 1400000000 --region singapore"),
            ("another file", "deskbatch init production.toml"),
        ],
    ),
    ("deskbatch config", &[("the effective settings and their sources", "deskbatch config show")]),
    (
        "deskbatch config show",
        &[
            ("the effective settings and their sources", "deskbatch config show"),
            ("those of a sandbox run", "deskbatch config show --sandbox"),
            ("those of another file", "deskbatch config show --config production.toml"),
            ("for a program", "deskbatch config show --json"),
        ],
    ),
    (
        "deskbatch doctor",
        &[
            ("check everything before a run", "deskbatch doctor"),
            ("without the network", "deskbatch doctor --offline"),
            ("check the queue of sandbox runs", "deskbatch doctor --sandbox"),
        ],
    ),
    (
        "deskbatch explain",
        &[("one code", "deskbatch explain -50003"), ("all codes", "deskbatch explain")],
    ),
    (
        "deskbatch usersig",
        &[("for another program, in a variable", "usersig=$(deskbatch usersig)")],
    ),
    (
        "deskbatch sandbox",
        &[
            ("on the default port, until Ctrl-C", "deskbatch sandbox"),
            (
                "slow, and on another port",
                "deskbatch sandbox --addr 127.0.0.1:9000 --latency 300ms",
            ),
        ],
    ),
    (
        "deskbatch completions",
        &[
            ("bash", "echo 'source <(deskbatch completions bash)' >> ~/.bashrc"),
            ("zsh, into a directory of $fpath", "deskbatch completions zsh > ~/.zfunc/_deskbatch"),
            ("fish", "deskbatch completions fish > ~/.config/fish/completions/deskbatch.fish"),
            ("PowerShell", "deskbatch completions powershell >> $PROFILE"),
        ],
    ),
    (
        "deskbatch man",
        &[
            ("read one page", "deskbatch man run | man -l -"),
            ("install all pages", "deskbatch man --dir /usr/local/share/man/man1"),
        ],
    ),
];

/// The examples of the command `path`.
pub(super) fn examples(path: &str) -> &'static [(&'static str, &'static str)] {
    EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[], |(_, examples)| examples)
}

/// The end of the long help of the command `path`.
pub(super) fn footer(path: &str) -> Option<String> {
    let lines: Vec<String> =
        examples(path).iter().map(|(what, line)| format!("  # {what}\n  {line}")).collect();
    let mut parts: Vec<String> = Vec::new();
    if !lines.is_empty() {
        parts.push(format!("Examples:\n{}", lines.join("\n")));
    }
    if path == "deskbatch" {
        parts.push(EXIT_CODES.to_owned());
        parts.push(ABOUT_SETTINGS.to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The lines of the exit codes, without their heading.
pub(super) fn exit_codes() -> impl Iterator<Item = &'static str> {
    EXIT_CODES.lines().skip(1)
}
