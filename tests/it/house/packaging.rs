//! Packaging: units, log rotation, scripts, package, image. The tool that reads each file checks it.
//! Without the tool a test says so and passes, but fails in CI (`CI` is set).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::binary::has;
use crate::support::docs::{read, root};
use crate::support::place::{Place, data, said};

/// Whether the program `name` is installed. If not, prints how to get it.
#[allow(clippy::print_stderr, reason = "whoever runs the tests shall know what was left out")]
fn is_there(name: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some programs outside of a plain user's path.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let there = folders.into_iter().any(|folder| folder.join(name).is_file());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing: apt-get install {package}");
        eprintln!("left out: {name} is missing: apt-get install {package}");
    }
    there
}

#[track_caller]
fn passes(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}{}", data(&output), said(&output));
    output
}

fn contrib(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join("contrib").join(folder)).unwrap();
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    let mut names: Vec<String> =
        files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn systemd_units_are_valid_and_sandboxed() {
    if !is_there("systemd-analyze", "systemd") {
        return;
    }
    let place = Place::new();
    let mut units = Vec::new();
    for name in contrib("systemd").into_iter().filter(|name| !name.ends_with("example")) {
        let text = read(&format!("contrib/systemd/{name}"));
        // systemd checks that the binary exists, so the unit must name the one that cargo built.
        let text = text.replace("/usr/bin/deskbatch", env!("CARGO_BIN_EXE_deskbatch"));
        // systemd verifies a template only as an instance.
        units.push(place.write(&name.replace("@.", "@x."), text));
    }
    assert_eq!(units.len(), 3, "{units:?}");
    let output = passes(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    // Warnings do not change the exit code, and some may concern other units of this machine.
    let ours = said(&output).lines().filter(|line| line.contains("deskbatch")).count();
    assert_eq!(ours, 0, "{}", said(&output));
    let service = place.path("deskbatch.service");
    let args = ["security", "--offline=true", "--threshold=15", "--no-pager"];
    let output = passes(Command::new("systemd-analyze").args(args).arg(service));
    let text = data(&output);
    has(&text, &["Overall exposure level for deskbatch.service: "]);
    let figure = text.rsplit("deskbatch.service: ").next().unwrap();
    let figure = figure.split(' ').next().unwrap();
    has(&read("docs/cron.md"), &[&format!("gives the service {figure} of 10")]);
}

#[test]
fn failure_unit_mails_output_of_run() {
    let place = Place::new();
    let programs =
        [("journalctl", "echo \"said by $*\""), ("mail", "{ printf '<%s>' \"$@\"; cat; } >mailed")];
    for (name, text) in programs {
        let path = place.write(name, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let service = read("contrib/systemd/deskbatch.service");
    has(&service, &["OnFailure=deskbatch-failed@%n.service"]);
    let unit = read("contrib/systemd/deskbatch-failed@.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    // Expands the specifiers as systemd does for the instance that the service names.
    let line = line.replace("%i", "deskbatch.service").replace("%H", "host").replace("$$", "$");
    let words = shlex::split(&line).unwrap();
    let path = format!("{}:{}", place.folder.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(place.folder.path());
    passes(command.env("PATH", path).env("MAILTO", "root"));
    let mail = place.read("mailed");
    has(&mail, &["<-s><deskbatch.service failed on host><root>"]);
    has(&mail, &["said by ", "--unit=deskbatch.service"]);
}

#[test]
fn systemd_timer_fires_every_night() {
    if !is_there("systemd-analyze", "systemd") {
        return;
    }
    let timer = read("contrib/systemd/deskbatch.timer");
    let when = timer.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
    let args = ["calendar", "--iterations=2", "--base-time=2026-01-31 12:00:00 UTC", when];
    let output = passes(Command::new("systemd-analyze").args(args).env("TZ", "UTC"));
    has(&data(&output), &["2026-02-01 03:15:00", "2026-02-02 03:15:00"]);
}

#[test]
fn logrotate_keeps_logs_owner_only() {
    if !is_there("logrotate", "logrotate") {
        return;
    }
    let place = Place::new();
    let id = |what: &str| data(&Command::new("id").arg(what).output().unwrap()).trim().to_owned();
    let owner = format!("{} {}", id("-un"), id("-gn"));
    let folder = place.folder.path().display().to_string();
    let text = read("contrib/logrotate/deskbatch");
    let text = text.replace("/srv/desk", &folder).replace("desk desk", &owner);
    let file = place.write("deskbatch.conf", text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let rotate = |log: &str| {
        place.write("nightly.log", log);
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
        let mut command = Command::new("logrotate");
        command.arg("--force").arg("--state").arg(place.path("state")).arg(&file);
        passes(command.env("PATH", path));
    };
    rotate("first night\n");
    assert_eq!(place.read("nightly.log.1"), "first night\n");
    let new = fs::metadata(place.path("nightly.log")).unwrap();
    assert_eq!((new.len(), new.permissions().mode() & 0o777), (0, 0o600));
    rotate("second night\n");
    assert_eq!(place.read("nightly.log.1"), "second night\n");
    assert!(place.path("nightly.log.2.gz").exists(), "{:?}", place.files());
}

#[test]
fn scripts_pass_shellcheck() {
    if !is_there("shellcheck", "shellcheck") {
        return;
    }
    let mut scripts: Vec<PathBuf> = Vec::new();
    for (folder, ending) in [(".", ".sh"), ("deb", "inst"), ("deb", "rm")] {
        for name in contrib(folder).into_iter().filter(|name| name.ends_with(ending)) {
            scripts.push(root().join("contrib").join(folder).join(name));
        }
    }
    assert_eq!(scripts.len(), 4, "{scripts:?}");
    passes(Command::new("shellcheck").args(&scripts));
    let place = Place::new();
    for fence in crate::support::docs::fences(&read("docs/cron.md")) {
        if let Some(file) = fence.word("file") {
            passes(Command::new("shellcheck").arg(place.write(file, &fence.text)));
        }
    }
}

/// Runs the script's static check with a toolchain that the test fakes.
fn check_static(tools: &BTreeMap<&str, String>) -> Output {
    let place = Place::new();
    for (name, text) in tools {
        let path = place.write(name, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in ["find", "dirname", "tr"] {
        let real = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
        let real = real.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(real, place.path(name)).unwrap();
    }
    Command::new("/bin/sh")
        .arg(root().join("contrib/build-static.sh"))
        .arg("--check")
        .env("PATH", place.folder.path())
        .output()
        .unwrap()
}

#[test]
fn static_build_names_missing_tools_with_remedy() {
    let empty = Place::new();
    let print = |path: &Path| format!("echo '{}'", path.display());
    let uname = "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac".to_owned();
    let mut tools = BTreeMap::from([("uname", uname), ("rustc", print(empty.folder.path()))]);
    has(&said(&check_static(&tools)), &["cargo not found: install the Rust toolchain"]);
    tools.insert("cargo", "exit 9".to_owned());
    let output = check_static(&tools);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    has(
        &said(&output),
        &["rustup target add x86_64-unknown-linux-musl", "apt-get install musl-tools"],
    );
    empty.write("libstd-1.rlib", "");
    tools.insert("musl-gcc", String::new());
    let output = check_static(&tools);
    assert_eq!(data(&output), "all tools are installed for x86_64-unknown-linux-musl\n");
    let strange = "case $1 in -m) echo m68k ;; *) echo Linux ;; esac".to_owned();
    tools.insert("uname", strange);
    has(&said(&check_static(&tools)), &["no static build for m68k"]);
}

#[test]
fn every_packaged_file_exists() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let package = &manifest["package"];
    let deb = &package["metadata"]["deb"];
    let sources = deb["assets"].as_array().unwrap().iter();
    let mut named = 0;
    for source in sources.map(|asset| asset[0].as_str().unwrap()) {
        if source.starts_with("target/") {
            continue;
        }
        let patterns = [
            ("internals/*.md", "internals/performance.md"),
            ("*.md", "README.md"),
            ("*.json", "output.schema.json"),
            ("img/*", "img/dashboard.png"),
        ];
        let one =
            patterns.iter().fold(source.to_owned(), |path, (from, to)| path.replace(from, to));
        assert!(root().join(one).is_file(), "{source}");
        named += 1;
    }
    assert!(named >= 8, "{named}");
    let changelog = read(deb["changelog"].as_str().unwrap());
    let version = package["version"].as_str().unwrap();
    let head = format!("deskbatch ({version}-1) ");
    assert!(changelog.starts_with(&head), "contrib/deb/changelog does not begin with {head}");
}

#[test]
fn docker_image_is_pinned_rootless_and_secret_free() {
    let file = read("contrib/docker/Dockerfile");
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    let froms: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(froms.len(), 2, "{froms:?}");
    for from in froms {
        assert!(from.contains(':') && !from.contains(":latest"), "{from}");
    }
    let user = lines.iter().rposition(|line| line.starts_with("USER 65532")).unwrap();
    let start = lines.iter().position(|line| line.starts_with("ENTRYPOINT")).unwrap();
    assert!(user < start);
    let ignored = read(".dockerignore");
    for name in ["target", ".git", "**/*.db", "**/deskbatch.toml"] {
        assert!(ignored.lines().any(|line| line == name), "{name}");
    }
}
