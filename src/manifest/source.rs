//! From bytes to text: unpacked, hashed, UTF-16 made UTF-8.
//!
//! Relies on marks in the bytes themselves, never on a file name, so that stdin is
//! treated like a file. The hash is taken of the unpacked bytes, before anything else
//! touches them. Never holds more than a buffer.

use std::fmt::Write as _;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::ManifestOptions;
use super::error::ReadFlaw;

/// How much is looked at to recognise the delimiter.
const PEEK_BYTES: u64 = 64 * 1024;

/// How much is decoded at once.
const DECODED_BYTES: usize = 64 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A reader whose type no longer matters.
pub(super) type Input = Box<dyn Read + Send>;

/// The text in `bytes`, and the hash that grows while it is read.
///
/// Bytes that are not UTF-16 pass as they are, in whatever encoding: only two columns
/// have to be readable, and the others go into the rejects unharmed.
pub(super) fn text(mut bytes: Input) -> io::Result<(Input, Digest)> {
    let start = read_some(&mut bytes, GZIP_MAGIC.len() as u64)?;
    let packed = start == GZIP_MAGIC;
    let whole = Cursor::new(start).chain(bytes);
    let plain: Input =
        if packed { Box::new(Unpacked(MultiGzDecoder::new(whole))) } else { Box::new(whole) };
    let digest = Digest::default();
    let hashed = Hashed { inner: plain, digest: digest.clone() };
    let decoded = DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(hashed);
    // The decoder loses what it holds when its last reads are short ones.
    Ok((Box::new(BufReader::with_capacity(DECODED_BYTES, decoded)), digest))
}

/// The first bytes of `text`; `text` goes on after them.
pub(super) fn peek(text: &mut Input) -> io::Result<Vec<u8>> {
    read_some(text, PEEK_BYTES)
}

fn read_some(reader: &mut Input, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Unpacks gzip and tells damage from a failing disk.
struct Unpacked<R>(MultiGzDecoder<R>);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        self.0.read(buf).map_err(|error| match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => {
                io::Error::other(ReadFlaw::Gzip(error.to_string()))
            }
            _ => error,
        })
    }
}

/// Hashes what passes, and bears interruptions for all the readers above.
struct Hashed {
    inner: Input,
    digest: Digest,
}

impl Read for Hashed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.inner.read(buf) {
                // The CSV reader would take a signal for the end of the file, and the decoder
                // would lose its last half character.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.digest.with(|hash| hash.update(&buf[..read]));
        Ok(read)
    }
}

/// The hash of what was read so far. Shared, because the reader that feeds it
/// disappears under others that do not give it back.
#[derive(Clone, Default)]
pub(super) struct Digest(Arc<Mutex<Sha256>>);

impl Digest {
    /// The name of the intent: these bytes, read with these options.
    ///
    /// One file with another `--status` is another intent, so what changes the meaning
    /// of the bytes is hashed too. The text below must never change: batches that are
    /// under way are found again by it.
    pub(super) fn name(&self, options: &ManifestOptions) -> String {
        let bytes = hex(&self.with(|hash| hash.clone().finalize()));
        let ManifestOptions { status, delimiter, on_conflict, sdkappid: _ } = options;
        let choices = [
            status.map(|status| format!("status={status}")),
            delimiter.map(|byte| format!("delimiter={byte:02x}")),
            on_conflict.map(|choice| format!("on_conflict={choice}")),
        ];
        let choices: Vec<String> = choices.into_iter().flatten().collect();
        if choices.is_empty() {
            return bytes;
        }
        hex(&Sha256::digest(format!("{bytes}\n{}\n", choices.join("\n"))))
    }

    fn with<T>(&self, what: impl FnOnce(&mut Sha256) -> T) -> T {
        // A hash is never left half changed by a panic elsewhere.
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
