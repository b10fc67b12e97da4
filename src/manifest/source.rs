//! Turns bytes into text: unpacks them, hashes them, converts UTF-16 to UTF-8, and removes the end mark.
//!
//! Relies on marks in the bytes and never on a file name, so that stdin behaves like a file. The hash covers
//! the unpacked bytes before any other step. Keeps at most one buffer.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use encoding_rs_io::DecodeReaderBytesBuilder;
use sha2::{Digest as _, Sha256};

use super::error::ReadFlaw;
use super::{ManifestOptions, gzip, kind};
use crate::util::hex::hex;

/// The number of bytes used to recognise the delimiter.
const PEEK_BYTES: u64 = 64 * 1024;

/// The size of the decoder's buffer.
const DECODED_BYTES: usize = 64 * 1024;

/// Ctrl-Z, the end mark of text files from DOS.
const END_MARK: u8 = 0x1a;

pub(super) type Input = Box<dyn Read + Send>;

/// The text in `bytes`, and the hash, which is complete when the text has been read to its end.
///
/// Bytes that are not UTF-16 pass unchanged in any encoding: only two columns must be readable, and the
/// others go into the rejects unchanged.
pub(super) fn text(bytes: Input) -> io::Result<(Input, Digest)> {
    let mut bytes: Input = Box::new(Uninterrupted(bytes));
    let start = read_some(&mut bytes, gzip::MAGIC.len() as u64)?;
    let is_packed = start == gzip::MAGIC;
    let whole: Input = Box::new(Cursor::new(start).chain(bytes));
    let mut plain = if is_packed { Box::new(gzip::GzipReader::new(whole)) } else { whole };
    let head = read_some(&mut plain, kind::HEAD_BYTES)?;
    if let Some(kind) = kind::recognise(&head) {
        return Err(io::Error::other(ReadFlaw::Kind(kind)));
    }
    let digest = Digest::default();
    let hashed = Hashed { inner: Cursor::new(head).chain(plain), digest: digest.clone() };
    let decoded = DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(hashed);
    // The decoder loses buffered bytes when its last reads are short.
    let decoded = BufReader::with_capacity(DECODED_BYTES, decoded);
    Ok((Box::new(Unmarked { inner: decoded, holds: false }), digest))
}

/// The first bytes of `text`. They stay in `text`.
pub(super) fn peek(text: &mut Input) -> io::Result<Vec<u8>> {
    read_some(text, PEEK_BYTES)
}

fn read_some(reader: &mut Input, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Retries interrupted reads for all readers above. The CSV reader would treat an interruption as the end of
/// the file, and the decoder would lose its last incomplete character.
struct Uninterrupted(Input);

impl Read for Uninterrupted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Hashes the bytes that are read through it.
struct Hashed<R> {
    inner: R,
    digest: Digest,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.digest.with(|hash| hash.update(&buf[..read]));
        Ok(read)
    }
}

/// Removes one end mark if it is the last byte.
struct Unmarked<R> {
    inner: R,
    /// Whether an end mark was withheld that may be the last byte.
    holds: bool,
}

impl<R: BufRead> Read for Unmarked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let held = self.inner.fill_buf()?;
            if held.is_empty() || buf.is_empty() {
                return Ok(0);
            }
            if std::mem::take(&mut self.holds) {
                buf[0] = END_MARK;
                return Ok(1);
            }
            let read = held.len().min(buf.len());
            self.holds = read == held.len() && held[read - 1] == END_MARK;
            let given = read - usize::from(self.holds);
            buf[..given].copy_from_slice(&held[..given]);
            self.inner.consume(read);
            if given > 0 {
                return Ok(given);
            }
        }
    }
}

/// The hash of the bytes read so far. It is shared, because the readers above own the reader that feeds it
/// and do not return it.
#[derive(Clone, Default)]
pub(super) struct Digest(Arc<Mutex<Sha256>>);

impl Digest {
    /// The identity of the manifest: its bytes, read with these options.
    ///
    /// The same file with another `--status` has other target statuses, so the options that change the
    /// meaning are hashed too. The hashed text must never change, because a repeated import finds its
    /// unfinished batch by this digest.
    pub(super) fn name(&self, options: &ManifestOptions) -> String {
        let bytes = hex(&self.with(|hash| hash.clone().finalize()));
        let ManifestOptions { status, delimiter, on_conflict, sets_aside: _, sdkappid: _ } =
            options;
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
        // A panic elsewhere never leaves the hash half updated.
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
