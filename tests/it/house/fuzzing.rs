//! Runs the fuzz targets over their corpus and over fixed mutations of it.
//!
//! This is no fuzzer, since it does not learn from coverage (`fuzz/README.md` says how to run one). It
//! guards past findings on any toolchain in about a second. An input that breaks an invariant is saved,
//! and the failure message says how to run it again.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::house::fuzz_targets::{SECRET, TARGETS, Target};
use crate::support::scale::{cases, number};

/// Mutations of each corpus file.
fn mutations() -> u64 {
    cases(40, 1_000)
}
/// The seed of the mutations.
const SEED: u64 = 4;
/// Longer inputs find nothing more and cost time.
const INPUT_BYTES_MAX: usize = 4 * 1024;

/// Input that often breaks parsers: quotes, line ends, delimiters, byte order marks, limits.
const PIECES: [&[u8]; 24] = [
    b"\"",
    b"\"\"",
    b"\r",
    b"\n",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b"\0",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\x1f\x8b",
    b"{",
    b"}",
    b"[",
    b"]",
    b"=",
    b"\\u0000",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"1e999",
    b"question_id,status\n",
    b"\xe2\x80\xae",
];

/// The files of a target's corpus, sorted by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let named = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    };
    files.into_iter().map(named).collect()
}

/// `bytes` with one to four changes; pieces come from `other`.
fn mutate(bytes: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=bytes.len());
        let end = random.usize(at..=bytes.len().min(at + 32));
        match random.u8(..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let from = random.usize(..=other.len());
                let length = random.usize(..=other.len() - from);
                bytes.splice(at..end, other[from..from + length].iter().copied());
            }
            5 => drop(bytes.splice(at..end, PIECES[random.usize(..PIECES.len())].iter().copied())),
            6 => drop(bytes.splice(at..at, SECRET.bytes())),
            _ => bytes.insert(at, random.u8(..)),
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

/// Runs a target over its corpus and over `mutations` of each file. Returns the number of inputs.
#[track_caller]
fn drive((name, target): Target, mutations: u64, seed: u64) -> u64 {
    let corpus = corpus(name);
    assert!((10..=30).contains(&corpus.len()), "{name}: {} files", corpus.len());
    let mut runs = 0;
    for (at, (file, bytes)) in corpus.iter().enumerate() {
        run(name, target, bytes, || file.clone());
        let mut random = Rng::with_seed(seed ^ ((at as u64) << 32));
        for n in 0..mutations {
            let other = &corpus[random.usize(..corpus.len())].1;
            let input = mutate(bytes, other, &mut random);
            run(name, target, &input, || format!("mutation {n} of {file}, seed {seed}"));
        }
        runs += 1 + mutations;
    }
    runs
}

#[track_caller]
fn run(name: &str, target: fn(&[u8]), input: &[u8], what: impl Fn() -> String) {
    if catch_unwind(|| target(input)).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        fs::write(&kept, input).unwrap();
        panic!("{name} broke on {}; the input is kept in {}", what(), kept.display());
    }
}

#[track_caller]
fn holds(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.0 == name).unwrap();
    let runs = drive(target, mutations(), SEED);
    assert!(runs > 10 * mutations(), "{runs}");
}

#[test]
fn manifest_reader_survives_any_input() {
    holds("manifest");
}

#[test]
fn response_parser_survives_any_input() {
    holds("answer");
}

#[test]
fn usersig_check_survives_any_input() {
    holds("usersig");
}

#[test]
fn config_parser_survives_any_input_without_leak() {
    holds("config");
}

#[test]
#[ignore = "minutes; DESKBATCH_FUZZ_MUTATIONS a target, 10^6 unless said, DESKBATCH_FUZZ_SEED"]
fn fuzz_targets_survive_a_million_inputs() {
    let mutations = number("DESKBATCH_FUZZ_MUTATIONS", 1_000_000);
    let seed = number("DESKBATCH_FUZZ_SEED", fastrand::u64(..));
    for target in TARGETS {
        let each = mutations.div_ceil(corpus(target.0).len() as u64);
        let runs = drive(target, each, seed);
        assert!(runs >= mutations, "{}: {runs} runs, seed {seed}", target.0);
    }
}
