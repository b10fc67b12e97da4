//! Output files that replace existing ones: written completely or not at all, only where replacing is
//! allowed, through links, and on any file system.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::thread;

use crate::support::binary::{by_way_of, ends, has};
use crate::support::place::{Place, data, manifest, said};

const SDKAPPID: &[&str] = &["--sdkappid", "1"];
const REPORT: &[&str] = &["report", "-o", "out.csv"];

/// A queue with a few jobs.
fn with_queue() -> Place {
    let place = Place::new();
    place.write("jobs.csv", manifest([("1-a", "4"), ("1-b", "5")]));
    ends(place.deskbatch(&[&["import", "jobs.csv"], SDKAPPID].concat()), 0);
    place
}

/// An import of one valid and one invalid row with `--rejects` and `args`.
fn importing(place: &Place, args: &[&str]) -> Command {
    place.write("bad.csv", "question_id,status,note\n1-c,4,x\nc d,4,y\n");
    place.deskbatch(&[&["import", "bad.csv", "--reimport", "--rejects"], args, SDKAPPID].concat())
}

#[test]
fn report_replaces_nothing_but_an_unchanged_report() {
    let place = with_queue();
    ends(place.deskbatch(REPORT), 0);
    ends(place.deskbatch(REPORT), 0);
    let report = place.read("out.csv");
    ends(place.deskbatch(&["report", "-o", "out.json", "--format", "json"]), 0);
    ends(place.deskbatch(&["report", "-o", "out.json", "--format", "json"]), 0);

    let edited = report.replace("1-b,disable", "1-b,delete");
    assert_ne!(edited, report);
    for (text, why) in [
        (edited.as_str(), "out.csv exists and was changed after deskbatch wrote it"),
        ("question_id,status\n1-x,4\n", "out.csv exists and is not a report"),
        ("my notes\n", "is not a report"),
        ("[1]\n", "is not a report"),
    ] {
        place.write("out.csv", text);
        let talk = said(&ends(place.deskbatch(REPORT), 2));
        has(&talk, &["-o: ", why, "Nothing was written", "--overwrite"]);
        assert_eq!(place.read("out.csv"), text);
        let talk = said(&ends(place.deskbatch(&["report", "--html", "out.csv"]), 2));
        has(&talk, &["--html: ", "is not an HTML report"]);
        assert_eq!(place.read("out.csv"), text);
    }
    ends(place.deskbatch(&[REPORT, &["--overwrite"]].concat()), 0);
    assert_eq!(place.read("out.csv"), report);
    // An empty file may be replaced, since no data is lost.
    place.write("out.csv", "");
    ends(place.deskbatch(REPORT), 0);
}

#[test]
fn sources_are_never_replaced() {
    let place = with_queue();
    let settings = "sdkappid = 1\nsecret_key = \"k\"\n";
    place.write("deskbatch.toml", settings);
    fs::set_permissions(place.path("deskbatch.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(place.path("deskbatch.toml"), place.path("hard.csv")).unwrap();
    symlink("deskbatch.db", place.path("soft.csv")).unwrap();
    for (name, what) in [
        ("deskbatch.toml", "configuration file"),
        ("hard.csv", "configuration file"),
        ("deskbatch.db", "queue file"),
        ("soft.csv", "queue file"),
        ("deskbatch.db-wal", "queue file"),
        ("./deskbatch.db.lock", "queue file"),
    ] {
        for flag in ["-o", "--html"] {
            let talk = said(&ends(place.deskbatch(&["report", flag, name, "--overwrite"]), 2));
            has(&talk, &[flag, &format!("{name} is the {what}: ")]);
        }
        let talk = said(&ends(importing(&place, &[name, "--overwrite"]), 2));
        has(&talk, &["--rejects: ", &format!("{name} is the {what}: ")]);
    }
    let talk = said(&ends(importing(&place, &["bad.csv", "--overwrite"]), 2));
    has(&talk, &["bad.csv is the manifest: "]);
    assert_eq!(place.read("deskbatch.toml"), settings);
    assert_eq!(place.status()["total"], 2);
}

#[test]
fn rejects_replace_nothing_but_unchanged_rejects() {
    let place = with_queue();
    let rejects = ["rejects.csv"];
    ends(importing(&place, &rejects), 0);
    ends(importing(&place, &rejects), 0);
    assert_eq!(place.status()["batches"].as_array().unwrap().len(), 3);
    let edited = place.read("rejects.csv").replace("c d", "1-d");
    for (text, why) in [
        (edited.as_str(), "was changed after deskbatch wrote it"),
        ("question_id,status\n1-x,4\n", "is not a rejects file"),
    ] {
        place.write("rejects.csv", text);
        let talk = said(&ends(importing(&place, &rejects), 2));
        has(&talk, &["--rejects: rejects.csv ", why, "Nothing was imported", "--overwrite"]);
        assert_eq!(place.read("rejects.csv"), text);
    }
    assert_eq!(place.status()["batches"].as_array().unwrap().len(), 3);
    ends(importing(&place, &["rejects.csv", "--overwrite"]), 0);
    has(&place.read("rejects.csv"), &["c d,4,y,contains a blank\n"]);
}

#[test]
fn refused_import_writes_no_rejects() {
    let place = with_queue();
    place.write("bad.csv", "question_id,status\n1-c,delete\n1-d,4\nc d,4\n");
    let run =
        ["run", "bad.csv", "--rejects", "rejects.csv", "--sdkappid", "1", "--identifier", "i"];
    let mut command = place.deskbatch(&[&run[..], &["--region", "singapore"]].concat());
    command.env("DESKBATCH_SECRET_KEY", "k");
    has(&said(&ends(command, 2)), &["refusing to delete 1 question without confirmation"]);
    let status = ["import", "bad.csv", "--rejects", "rejects.csv", "--status", "delete"];
    ends(place.deskbatch(&[&status[..], SDKAPPID].concat()), 2);
    assert!(!place.path("rejects.csv").exists());
    // A known batch already has its rejects file, which the user may have edited.
    let import = ["import", "bad.csv", "--rejects", "rejects.csv"];
    ends(place.deskbatch(&[&import[..], SDKAPPID].concat()), 0);
    place.write("rejects.csv", "being corrected");
    let talk = said(&ends(place.deskbatch(&[&import[..], SDKAPPID].concat()), 0));
    has(&talk, &["1 invalid row is skipped, as in the earlier import"]);
    assert_eq!(place.read("rejects.csv"), "being corrected");
}

#[test]
fn output_symlinks_are_followed_and_kept() {
    let place = with_queue();
    fs::create_dir(place.path("there")).unwrap();
    let linked = ["report.csv", "page.html", "rejects.csv"];
    for name in linked {
        symlink(format!("there/{name}"), place.path(name)).unwrap();
    }
    // The link dangles the first time and leads to the written file the second time.
    for _ in 0..2 {
        ends(place.deskbatch(&["report", "-o", "report.csv"]), 0);
        ends(place.deskbatch(&["report", "--html", "page.html"]), 0);
        ends(importing(&place, &["rejects.csv"]), 0);
        for name in linked {
            assert!(fs::symlink_metadata(place.path(name)).unwrap().is_symlink(), "{name}");
            let found = fs::symlink_metadata(place.path("there").join(name)).unwrap();
            assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{name}");
        }
        assert_eq!(fs::read_dir(place.path("there")).unwrap().count(), linked.len());
    }
}

#[test]
fn streams_and_pipes_are_written_as_they_are() {
    let place = with_queue();
    let whole = data(&ends(place.deskbatch(&["report"]), 0));
    for to in ["-", "/dev/stdout", "/proc/self/fd/1"] {
        assert_eq!(data(&ends(place.deskbatch(&["report", "-o", to]), 0)), whole, "{to}");
        // A file that the shell opened for appending is appended to.
        let log = place.write("log", "before\n");
        let mut command = place.deskbatch(&["report", "-o", to]);
        command.stdout(fs::OpenOptions::new().append(true).open(log).unwrap());
        ends(command, 0);
        assert_eq!(place.read("log"), format!("before\n{whole}"), "{to}");
    }
    ends(place.deskbatch(&["report", "-o", "/dev/null"]), 0);
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    ends(place.deskbatch(&["report", "-o", "pipe"]), 0);
    assert_eq!(reader.join().unwrap(), whole);
    let mut command = importing(&place, &["/dev/stderr"]);
    command.stdin(Stdio::null());
    has(&said(&ends(command, 0)), &["c d,4,y,contains a blank\n", "written to /dev/stderr"]);
}

#[test]
fn longest_names_are_written() {
    let place = with_queue();
    let name = |ending: &str| "n".repeat(255 - ending.len()) + ending;
    ends(place.deskbatch(&["report", "-o", &name(".csv")]), 0);
    ends(place.deskbatch(&["report", "--html", &name(".html")]), 0);
    ends(importing(&place, &[&name(".bad")]), 0);
    ends(place.deskbatch(&["init", &name(".toml")]), 0);
    let long = place.files().iter().filter(|name| name.len() == 255).count();
    assert_eq!(long, 4, "{:?}", place.files());
}

#[test]
fn full_disk_keeps_old_report_intact() {
    let place = Place::new();
    let ids: Vec<String> = (0..9_000).map(|n| format!("1-question{n}")).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    ends(place.deskbatch(&[&["import", "jobs.csv"], SDKAPPID].concat()), 0);
    ends(place.deskbatch(REPORT), 0);
    let (report, files) = (place.read("out.csv"), place.files());
    assert!(report.len() > 400_000, "{}", report.len());
    let limit = ["prlimit", "--fsize=300000", "--"];
    let talk = said(&ends(by_way_of(&limit, &place.deskbatch(REPORT)), 70));
    has(&talk, &["cannot write out.csv", "File too large"]);
    assert_eq!(place.read("out.csv"), report);
    let new = ["report", "-o", "new.csv"];
    ends(by_way_of(&limit, &place.deskbatch(&new)), 70);
    assert_eq!(place.files(), files);
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{REPORT, SDKAPPID, ends, importing, with_queue};
    use crate::support::binary::has;
    use crate::support::crash::{Mode, Moment};
    use crate::support::place::said;

    #[test]
    fn killed_report_command_keeps_old_or_new_file() {
        let mut killed = 0;
        for mode in [Mode::Before, Mode::After, Mode::Torn] {
            for at in 1.. {
                let place = with_queue();
                ends(place.deskbatch(REPORT), 0);
                let old = place.read("out.csv");
                place.write("more.csv", "question_id,status\n1-c,4\n");
                ends(place.deskbatch(&[&["import", "more.csv"], SDKAPPID].concat()), 0);
                let files = place.files();
                let output =
                    Moment { mode, at }.befalls(place.deskbatch(REPORT), &place).output().unwrap();
                let new = place.read("out.csv");
                let is_new = new.starts_with(&old[..60]) && new.lines().count() == 4;
                assert!(new == old || is_new, "{mode:?} {at}: {new}");
                let left: Vec<String> = place
                    .files()
                    .into_iter()
                    .filter(|name| !name.contains("deskbatch.db-"))
                    .collect();
                assert_eq!(left, files, "{mode:?} {at}");
                if output.status.code() == Some(0) {
                    break;
                }
                assert_eq!(output.status.code(), None, "{}", said(&output));
                killed += 1;
            }
        }
        assert!(killed >= 6, "{killed}");
    }

    #[test]
    fn refused_permissions_lose_nothing() {
        let place = with_queue();
        let modeless = |command| Moment { mode: Mode::Modeless, at: 0 }.befalls(command, &place);
        ends(modeless(place.deskbatch(REPORT)), 0);
        ends(modeless(place.deskbatch(&["report", "--html", "page.html"])), 0);
        ends(modeless(importing(&place, &["rejects.csv"])), 0);
        ends(modeless(place.deskbatch(&["init", "new.toml"])), 0);
        let parts = ["question_id,status,state", "<!DOCTYPE html>", "c d,4,y,", "# region"];
        for (name, part) in ["out.csv", "page.html", "rejects.csv", "new.toml"].iter().zip(parts) {
            has(&place.read(name), &[part]);
        }
    }
}
