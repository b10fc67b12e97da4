//! The examples of each command and the exit codes, for the end of `--help` and the man pages.

/// The exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0   everything asked for is done, or there was nothing to do
  1   finished; some jobs failed: read the report
  2   the command line, the configuration or the manifest is wrong, or not
      what --plan approved; nothing was sent: fix it
  3   stopped early with work left: run again
  4   the service refuses this app or account: fix the credentials, run again
  5   another run has the queue: leave it to that one
  70  a bug or a broken machine, such as a full disk: look at the message";

/// Where settings come from.
const ABOUT_SETTINGS: &str = "\
Settings come from flags, then the environment, then deskbatch.toml.
deskbatch config show tells what is in effect; deskbatch run --help explains each.";

/// By command: examples, each a description and a command line.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "deskbatch",
        &[
            ("rehearse on this machine, without an account", "deskbatch run jobs.csv --sandbox"),
            (
                "write a configuration, and see whether it holds",
                "deskbatch init && deskbatch doctor",
            ),
            ("see what a run would do; sends nothing", "deskbatch plan jobs.csv"),
            ("do it", "deskbatch run jobs.csv"),
        ],
    ),
    (
        "deskbatch run",
        &[
            ("rehearse: the sandbox takes the service's place", "deskbatch run jobs.csv --sandbox"),
            (
                "how it behaves when one answer in twenty is \"too fast\"",
                "deskbatch run jobs.csv --sandbox --fault throttle=0.05",
            ),
            ("import and send; asks before deleting", "deskbatch run jobs.csv"),
            ("go on where the last run stopped", "deskbatch run"),
            ("delete every id of a list", "deskbatch run ids.csv --status delete"),
            (
                "every night, from cron",
                "deskbatch run cleanup.csv --again --yes --quiet --max-failures 5%",
            ),
        ],
    ),
    (
        "deskbatch dashboard",
        &[
            ("look at http://127.0.0.1:8048/ while runs come and go", "deskbatch dashboard"),
            ("on a free port; it says which", "deskbatch dashboard --addr 127.0.0.1:0"),
            (
                "beside one run, for as long as that goes on",
                "deskbatch run --dashboard 127.0.0.1:8048",
            ),
        ],
    ),
    (
        "deskbatch plan",
        &[
            ("what a run would do with a file and what waits", "deskbatch plan jobs.csv"),
            ("every question that would be deleted", "deskbatch plan jobs.csv --all"),
            ("for a program", "deskbatch plan jobs.csv --json"),
        ],
    ),
    (
        "deskbatch import",
        &[
            ("into the queue; nothing is sent", "deskbatch import jobs.csv"),
            (
                "leave out bad rows, each with its reason",
                "deskbatch import jobs.csv --rejects bad.csv",
            ),
            ("one status for all rows", "deskbatch import ids.csv --status disable"),
            ("from another program", "zcat export.csv.gz | deskbatch import - --name export"),
        ],
    ),
    (
        "deskbatch status",
        &[
            ("how many are done, and how long the rest takes", "deskbatch status"),
            ("for a program", "deskbatch status --json"),
        ],
    ),
    (
        "deskbatch report",
        &[
            ("what became of each row", "deskbatch report -o outcome.csv"),
            (
                "what was refused, as a manifest to mend",
                "deskbatch report --only failed -o failed.csv",
            ),
            ("for a program", "deskbatch report --format json"),
        ],
    ),
    (
        "deskbatch retry",
        &[
            ("all that failed", "deskbatch retry && deskbatch run"),
            ("only what failed with one code", "deskbatch retry --code -50003"),
        ],
    ),
    ("deskbatch cancel", &[("what is pending of batch 3", "deskbatch cancel --batch 3")]),
    (
        "deskbatch prune",
        &[
            ("see what would go", "deskbatch prune --older-than 90d --dry-run"),
            ("let it go", "deskbatch prune --older-than 90d"),
        ],
    ),
    (
        "deskbatch init",
        &[
            ("asks, on a terminal", "deskbatch init"),
            ("from a script", "deskbatch init --sdkappid 1400000000 --region singapore"),
            ("another file", "deskbatch init production.toml"),
        ],
    ),
    ("deskbatch config", &[("what is in effect, and from where", "deskbatch config show")]),
    (
        "deskbatch config show",
        &[
            ("what is in effect, and from where", "deskbatch config show"),
            ("in a rehearsal", "deskbatch config show --sandbox"),
            ("of another file", "deskbatch config show --config production.toml"),
            ("for a program", "deskbatch config show --json"),
        ],
    ),
    (
        "deskbatch doctor",
        &[
            ("would a run get through?", "deskbatch doctor"),
            ("without the network", "deskbatch doctor --offline"),
            ("is the rehearsal in order?", "deskbatch doctor --sandbox"),
        ],
    ),
    (
        "deskbatch explain",
        &[("one code", "deskbatch explain -50003"), ("all of them", "deskbatch explain")],
    ),
    ("deskbatch usersig", &[("for another tool, in a variable", "usersig=$(deskbatch usersig)")]),
    (
        "deskbatch sandbox",
        &[
            ("at the usual port; Ctrl-C ends it", "deskbatch sandbox"),
            (
                "slow, and at a port of your own",
                "deskbatch sandbox --addr 127.0.0.1:9000 --latency-ms 300",
            ),
        ],
    ),
    (
        "deskbatch completions",
        &[
            ("bash", "echo 'source <(deskbatch completions bash)' >> ~/.bashrc"),
            ("zsh, into a folder of $fpath", "deskbatch completions zsh > ~/.zfunc/_deskbatch"),
            ("fish", "deskbatch completions fish > ~/.config/fish/completions/deskbatch.fish"),
            ("PowerShell", "deskbatch completions powershell >> $PROFILE"),
        ],
    ),
    (
        "deskbatch man",
        &[
            ("read one page", "deskbatch man run | man -l -"),
            ("install all", "deskbatch man --dir /usr/local/share/man/man1"),
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
