//! Values of settings parse alike from every source. A configuration file is used only if no other user can
//! have written it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use deskbatch::sandbox::SANDBOX_KEY;

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said, skipped};

/// A user and a group id that belong neither to root nor to the user of the tests.
const OTHER: u32 = 65_534;

fn with_mode(place: &Place, mode: u32) {
    fs::set_permissions(place.path("deskbatch.toml"), fs::Permissions::from_mode(mode)).unwrap();
}

/// Only root can create another user's file.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn control_character_in_a_variable_is_refused() {
    let place = Place::new();
    for (name, value) in [
        ("DATABASE", "deskbatch.db"),
        ("CONFIG", "deskbatch.toml"),
        ("IDENTIFIER", "administrator"),
        ("ENDPOINT", "https://gateway.example"),
        ("ON_FINISH", "true"),
        ("METRICS_FILE", "deskbatch.prom"),
        ("LOG", "warn"),
        ("LOG_FILE", "deskbatch.log"),
        ("DASHBOARD", "127.0.0.1:0"),
        ("SECRET_KEY", "5bd2850fff3ecb11d7c805251c51ee46"),
        ("USERSIG", "eJwPIECES"),
        ("DASHBOARD_TOKEN", "0123456789abcdef"),
    ] {
        let variable = format!("DESKBATCH_{name}");
        for c in ["\r", "\n", "\u{1b}", "\t"] {
            let mut command = place.deskbatch(&["status"]);
            command.env(&variable, format!("{value}{c}"));
            let talk = said(&ends(command, 2));
            let number = format!("U+{:04X}", u32::from(c.chars().next().unwrap()));
            has(&talk, &[&variable, &number]);
            assert!(!talk.contains(value) || name == "CONFIG", "{talk}");
        }
    }
    // Values that their own types parse are rejected as well.
    for (name, value) in
        [("CHUNK", "5\r"), ("REGION", "china\r"), ("QUIET", "true\r"), ("LOG_FORMAT", "json\r")]
    {
        let mut command = place.deskbatch(&["status"]);
        command.env(format!("DESKBATCH_{name}"), value);
        let talk = said(&ends(command, 2));
        assert!(!talk.contains('\r'), "{talk:?}");
        has(&talk, &[name]);
    }
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn quotes_around_a_value_are_refused() {
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    for (name, value) in [
        ("DATABASE", "\"deskbatch.db\""),
        ("DATABASE", "'deskbatch.db'"),
        ("ON_FINISH", "\"./tell.sh $1\""),
        ("SECRET_KEY", "\"5bd2850fff3ecb11d7c805251c51ee46\""),
        ("CONFIG", "'deskbatch.toml'"),
    ] {
        let mut command = place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]);
        command.env(format!("DESKBATCH_{name}"), value);
        let talk = said(&ends(command, 2));
        has(&talk, &[&format!("DESKBATCH_{name}"), "quotes around it", "without them"]);
        assert!(!talk.contains("5bd2850f"), "{talk}");
    }
    assert_eq!(place.files(), ["jobs.csv"]);
}

#[test]
fn flags_and_files_are_read_as_variables_are() {
    let place = Place::new();
    let wrong = |args: &[&str], parts: &[&str]| {
        has(&said(&ends(place.deskbatch(args), 2)), parts);
    };
    wrong(&["status", "--database", "q.db\r"], &["--database: ", "U+000D"]);
    wrong(&["status", "--database", "'q.db'"], &["--database: ", "quotes"]);
    wrong(&["status", "--config", "a.toml\r"], &["--config: ", "U+000D"]);
    for (text, parts) in [
        ("database = \"q.db\\r\"", ["key database", "U+000D"]),
        ("on_finish = \"'true'\"", ["key on_finish", "quotes"]),
        ("identifier = \"\\u2028a\"", ["key identifier", "U+2028"]),
        ("secret_key = \"k\\n\"", ["key secret_key", "U+000A"]),
    ] {
        place.write("deskbatch.toml", text);
        with_mode(&place, 0o600);
        wrong(&["status"], &["deskbatch.toml", parts[0], parts[1]]);
    }
    // A file with Windows line ends is valid.
    place.write("deskbatch.toml", "sdkappid = 1400000000\r\ndatabase = \" mine.db \"\r\n");
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    ends(place.deskbatch(&["import", "jobs.csv"]), 0);
    let mut command = place.deskbatch(&["status"]);
    command.env("DESKBATCH_DATABASE", "  mine.db ");
    ends(command, 0);
    assert!(place.files().contains(&"mine.db".to_owned()), "{:?}", place.files());
}

#[test]
fn file_that_others_can_write_is_not_obeyed() {
    let place = Place::new();
    place.write(
        "deskbatch.toml",
        "endpoint = \"https://evil.example\"\non_finish = \"touch evil\"\n",
    );
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    for mode in [0o666, 0o646, 0o602] {
        with_mode(&place, mode);
        for args in [
            &["run", "jobs.csv"][..],
            &["import", "jobs.csv", "--sdkappid", "1"],
            &["status"],
            &["config", "show"],
            &["status", "--config", "deskbatch.toml"],
        ] {
            let talk = said(&ends(place.deskbatch(args), 2));
            has(&talk, &["deskbatch.toml: other users can change it", "chmod go-w"]);
        }
        let doctor = ends(place.deskbatch(&["doctor", "--offline"]), 2);
        let finding = "error   config    refusing to use deskbatch.toml: other users can change it";
        has(&data(&doctor), &[finding]);
    }
    assert_eq!(place.files(), ["deskbatch.toml", "jobs.csv"]);
}

#[test]
fn file_of_another_user_is_not_obeyed() {
    if !is_root() {
        return skipped("this user is not root", true);
    }
    let place = Place::new();
    let path = place.write("deskbatch.toml", "chunk = 3\n");
    with_mode(&place, 0o644);
    chown(&path, Some(OTHER), None).unwrap();
    for args in [&["status"][..], &["status", "--config", "deskbatch.toml"], &["config", "show"]] {
        let talk = said(&ends(place.deskbatch(args), 2));
        has(&talk, &["belongs to another user (uid 65534; you are 0)", "refusing to use"]);
    }
    // The group may have other members.
    chown(&path, Some(0), Some(OTHER)).unwrap();
    with_mode(&place, 0o664);
    has(&said(&ends(place.deskbatch(&["status"]), 2)), &["other users can change it"]);
    with_mode(&place, 0o644);
    ends(place.deskbatch(&["config", "show"]), 0);
}

#[test]
fn commands_without_settings_read_no_file() {
    let place = Place::new();
    place.write("deskbatch.toml", "");
    with_mode(&place, 0o666);
    ends(place.deskbatch(&["explain", "-14"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_file_with_mode_0440_is_accepted() {
    // On Linux this is tmpfs. Kubernetes mounts secrets there as root, mode 0440, for a group.
    let place = Place::in_memory();
    if !place.folder.path().starts_with("/dev/shm") {
        return skipped("there is no file system in memory", cfg!(target_os = "linux"));
    }
    let sandbox = sandbox().await;
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    place.write("deskbatch.toml", format!("secret_key = \"{SANDBOX_KEY}\"\n"));
    let run = || {
        let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
        command.env_remove("DESKBATCH_SECRET_KEY");
        command
    };
    with_mode(&place, 0o444);
    has(&said(&ends(run(), 2)), &["contains a secret, and other users can read it"]);
    with_mode(&place, 0o640);
    has(&said(&ends(run(), 2)), &["contains a secret, and other users can read it"]);
    with_mode(&place, 0o440);
    ends(run(), 0);
    if is_root() {
        chown(place.path("deskbatch.toml"), None, Some(OTHER)).unwrap();
        has(&said(&ends(run(), 2)), &["contains a secret, and other users can read it"]);
    }
}

#[test]
fn kubernetes_variables_are_no_settings() {
    let place = Place::new();
    let mut command = place.deskbatch(&["config", "show"]);
    for (end, value) in [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "80"),
        ("SERVICE_PORT_HTTP", "80"),
        ("PORT", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP_PROTO", "tcp"),
        ("PORT_80_TCP_PORT", "80"),
        ("PORT_80_TCP_ADDR", "10.0.0.1"),
    ] {
        for service in ["DESKBATCH", "DESKBATCH_X", "DESKBATCH_SANDBOX"] {
            command.env(format!("{service}_{end}"), value);
        }
    }
    assert_eq!(said(&ends(command, 0)), "");
}
