//! Invariants that hold for any input bytes: one function per external input.
//!
//! Called by `fuzzing.rs` over the corpus, and by the fuzzer in `fuzz/`, which includes this file. A
//! function panics when an invariant is broken, and accepts good and bad input alike.

use std::collections::HashSet;
use std::io::{self, Cursor, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deskbatch::cli::SettingsArgs;
use deskbatch::config::{Settings, sandbox_settings};
use deskbatch::desk::{Endpoint, INFO_CHARS_MAX, make_usersig, parse_response, printable};
use deskbatch::domain::job::{
    App, Library, NewJob, QUESTION_ID_BYTES_MAX, QuestionId, TargetStatus,
};
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::manifest::{
    Manifest, ManifestError, ManifestOptions, OnConflict, Row, RowError, Totals,
};
use deskbatch::sandbox::verify_usersig;
use flate2::{Compression, write::ZlibEncoder};
use secrecy::SecretString;

/// A fuzz target with its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every fuzz target. Each has its corpus in `fuzz/corpus/NAME`.
pub const TARGETS: [Target; 4] =
    [("manifest", manifest), ("answer", response), ("usersig", usersig), ("config", config)];

/// The placeholder for a secret wherever one could leak.
pub const SECRET: &str = "5bd2850fff3ecb11d7c805251c51ee46";

/// Reads a manifest with several options, whole and in small pieces.
pub fn manifest(bytes: &[u8]) {
    let plain = ManifestOptions { sdkappid: 1_400_000_000, ..ManifestOptions::default() };
    let with = |change: fn(&mut ManifestOptions)| {
        let mut options = plain.clone();
        change(&mut options);
        read_manifest(Cursor::new(bytes.to_vec()), &options)
    };
    let whole = with(|_| {});
    let pieces = read_manifest(Pieces { bytes: Cursor::new(bytes.to_vec()), turn: 0 }, &plain);
    assert_eq!(whole, pieces, "read otherwise in small pieces");
    let first = with(|options| options.on_conflict = Some(OnConflict::First));
    let last = with(|options| options.on_conflict = Some(OnConflict::Last));
    let _ = with(|options| options.status = Some(TargetStatus::Disable));
    let _ = with(|options| options.delimiter = Some(b'|'));
    let [Ok(whole), Ok(first), Ok(last)] = [whole, first, last] else { return };
    assert_eq!(first.good, last.good, "a conflict made or lost a question");
    assert!(whole.good <= first.good, "a conflict made a question");
    assert_eq!([whole.rows; 2], [first.rows, last.rows], "a conflict made or lost a row");
    assert_eq!(first.bad, last.bad, "who wins a conflict made a row bad");
}

/// Yields one to seven bytes at a time and sometimes an interruption.
struct Pieces {
    bytes: Cursor<Vec<u8>>,
    turn: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.turn = (self.turn + 1) % 8;
        if self.turn == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buf.len().min(self.turn);
        self.bytes.read(&mut buf[..length])
    }
}

/// Returns the totals or the error's text, and checks both and every row.
fn read_manifest(
    from: impl Read + Send + 'static,
    options: &ManifestOptions,
) -> Result<Totals, String> {
    read_rows(Box::new(from), options).map_err(|error| {
        let text = error.to_string();
        assert!(text.starts_with("jobs.csv"), "{text}");
        assert_printable(&text);
        text
    })
}

fn read_rows(
    from: Box<dyn Read + Send>,
    options: &ManifestOptions,
) -> Result<Totals, ManifestError> {
    let mut manifest = Manifest::from_reader(from, "jobs.csv", options)?;
    let mut seen = HashSet::new();
    let (mut line, mut record, mut bad_rows) = (0, 0, 0);
    while let Some(row) = manifest.next_row()? {
        let at = match row {
            Row::New(job) => {
                assert_good(&job, options);
                assert!(seen.insert(job.question_id.to_string()), "given out twice: {job:?}");
                job.line
            }
            Row::Replace(job) => {
                assert_good(&job, options);
                assert_eq!(options.on_conflict, Some(OnConflict::Last), "{job:?}");
                assert!(seen.contains(job.question_id.as_str()), "replaces nothing: {job:?}");
                job.line
            }
            Row::Bad(row) => {
                assert_bad(&row, &mut record);
                bad_rows += 1;
                row.line
            }
            Row::Conflict(row, question) => {
                assert_bad(&row, &mut record);
                assert!(seen.remove(question.as_str()), "not given out: {question}");
                bad_rows += 2;
                row.line
            }
        };
        assert!(at > line, "line {at} after line {line}");
        line = at;
    }
    let totals = manifest.finish();
    assert_eq!(totals.rows, totals.good + totals.duplicates + totals.bad, "{totals:?}");
    assert_eq!(totals.good, seen.len() as u64, "{totals:?}");
    assert_eq!(totals.bad, bad_rows, "{totals:?}");
    assert_eq!(totals.by_status.iter().sum::<u64>(), totals.good, "{totals:?}");
    assert!(record <= totals.rows, "{totals:?}");
    for warning in &totals.warnings {
        assert_printable(&warning.to_string());
        assert!(warning.rows > 0 && warning.record <= totals.rows, "{warning:?}");
    }
    assert_eq!(totals.digest.len(), 64, "{totals:?}");
    Ok(totals)
}

/// Checks a bad row that follows row `record`.
fn assert_bad(row: &RowError, record: &mut u64) {
    assert_printable(&row.to_string());
    assert!(row.record > *record, "records go on: {row}");
    *record = row.record;
}

fn assert_good(job: &NewJob, options: &ManifestOptions) {
    let id = job.question_id.as_str();
    assert!((1..=QUESTION_ID_BYTES_MAX).contains(&id.len()), "{job:?}");
    assert!(!id.contains(|c: char| c.is_whitespace() || c.is_control()), "{job:?}");
    assert_eq!(QuestionId::parse(id.as_bytes()).as_ref(), Ok(&job.question_id));
    assert!(options.status.is_none_or(|status| status == job.status), "{job:?}");
}

/// The body of a response.
pub fn response(body: &[u8]) {
    let (response, info) = parse_response(body, &[]);
    match response {
        ResponseKind::Code(0) => {
            // Parses it a second time by other means, since success needs the service's own word. This
            // parser is stricter with unused fields and may fail on them.
            let text = String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
            if let Ok(document) = serde_json::from_str::<serde_json::Value>(&text) {
                assert_eq!(document["ActionStatus"], "OK");
            }
        }
        ResponseKind::Code(_) | ResponseKind::NamesQuestions | ResponseKind::Unreadable => {}
        other => panic!("a body that came is not {other:?}"),
    }
    let verdict = response.verdict();
    assert_eq!(
        verdict == deskbatch::domain::verdict::Verdict::Applied,
        response == ResponseKind::Code(0)
    );
    let shown = printable(&info, &["", SECRET]);
    assert!(shown.chars().count() <= INFO_CHARS_MAX, "{shown}");
    assert!(!shown.contains(SECRET) && !shown.contains(char::is_control), "{shown:?}");
}

/// A UserSig as received, and its bytes and JSON encoded like the vendor's.
pub fn usersig(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(bytes).expect("memory");
    let packed = zlib.finish().expect("memory");
    for usersig in [text.trim_end(), &in_vendors_alphabet(bytes), &in_vendors_alphabet(&packed)] {
        check_usersig(usersig);
    }
    signed_is_taken(&text);
}

/// The codes that the vendor has for a bad UserSig.
const REFUSALS: [i64; 7] = [70_001, 70_002, 70_003, 70_009, 70_013, 70_014, 70_020];

/// A time at which the UserSigs of the corpus are valid.
const MADE_MS: i64 = 1_735_689_600_000;

fn check_usersig(usersig: &str) {
    let (key, nobodys) = (SecretString::from(SECRET), SecretString::from("nobody signs with it"));
    let check = |key, now_ms| verify_usersig(usersig, "administrator", 1_400_000_000, key, now_ms);
    for now_ms in [0, MADE_MS, i64::MAX, i64::MIN] {
        let response = check(Some(&key), now_ms);
        assert!(response.is_ok() || response.is_err_and(|code| REFUSALS.contains(&code)));
    }
    for key in [Some(&nobodys), None] {
        let response = check(key, MADE_MS);
        assert!(response.is_err_and(|code| REFUSALS.contains(&code)), "forged: {usersig}");
    }
}

/// The sandbox accepts what the client signs for `identifier`, and rejects it for any other identifier
/// or key.
fn signed_is_taken(identifier: &str) {
    let identifier: String = identifier.chars().take(32).collect();
    let key = SecretString::from(SECRET);
    let made = make_usersig(&identifier, 7, &key, MADE_MS / 1_000, 600);
    let made = secrecy::ExposeSecret::expose_secret(&made);
    let check = |who: &str, key| verify_usersig(made, who, 7, Some(key), MADE_MS);
    assert_eq!(check(&identifier, &key), Ok(()), "{identifier:?}");
    assert_eq!(check(&format!("{identifier}x"), &key), Err(70_013), "{identifier:?}");
    let other = SecretString::from("another");
    assert_eq!(check(&identifier, &other), Err(70_009), "{identifier:?}");
}

fn in_vendors_alphabet(bytes: &[u8]) -> String {
    STANDARD.encode(bytes).replace('+', "*").replace('/', "-").replace('=', "_")
}

/// A settings file, for a live run and for a sandbox run.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for is_sandbox_run in [false, true] {
        let shown = match Settings::from_text(text, is_sandbox_run) {
            Ok(settings) => check_settings(settings),
            Err(error) => error.to_string(),
        };
        assert!(
            !shown.contains(SECRET) || is_written_where_it_is_shown(text),
            "a secret in {shown}"
        );
    }
}

/// The displayed text of valid settings.
fn check_settings(mut settings: Settings) -> String {
    assert!((1.0 / 3_600.0..=1_000_000.0).contains(&settings.rate()));
    assert!(!settings.database.as_os_str().is_empty());
    let timeouts = settings.timeouts();
    for timeout in [timeouts.connect, timeouts.total] {
        assert!((1..=600_000).contains(&timeout.as_millis()), "{timeouts:?}");
    }
    let account = settings.account();
    if let Ok(account) = &account {
        assert_ne!(account.app.sdkappid, 0);
        let beyond = account.endpoint.as_ref().is_some_and(|endpoint| !endpoint.is_loopback());
        assert!(!beyond || settings.rate() <= 5.0, "too fast for the live service");
    }
    let app = App { sdkappid: 1, library: Library::Chitchat };
    let runner = settings.runner(app, None);
    assert!((1..=10_000).contains(&runner.chunk_jobs_max), "{runner:?}");
    assert!((1..=64).contains(&runner.in_flight_max), "{runner:?}");
    // The test must not read the file of ids that the input names.
    settings.sandbox.known_ids = None;
    let sandbox = sandbox_settings(&settings, &settings.sandbox, None);
    if let Ok(sandbox) = &sandbox {
        assert!(sandbox.addr.ip().is_loopback(), "{sandbox:?}");
    }
    let errors = account.map_or_else(|e| e.to_string(), |account| format!("{account:?}"));
    let sandbox = sandbox.map_or_else(|e| e.to_string(), |sandbox| format!("{sandbox:?}"));
    format!("{settings:?} {errors} {sandbox} {runner:?}")
}

/// Whether the secret is in a field that is not meant for secrets. No program can recognize it there.
fn is_written_where_it_is_shown(text: &str) -> bool {
    let Ok(args) = toml::from_str::<SettingsArgs>(text) else { return false };
    let args = SettingsArgs { secret_key: None, usersig: None, ..args };
    // A host is shown as parsed: in lower case and decoded.
    let endpoint = args.endpoint.as_deref().map(str::parse::<Endpoint>);
    format!("{args:?} {endpoint:?}").contains(SECRET)
}

fn assert_printable(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}
