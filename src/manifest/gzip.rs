//! Gzip: reads every member, checks what follows the last one, and limits the unpacked size.
//!
//! Relies on `flate2` for a single member. After the last member it accepts only zero bytes, with which tapes
//! and some uploads fill a block. Stops at data that unpack to far more than any manifest.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::error::ReadFlaw;
use super::source::Input;

/// The first bytes of gzip data.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The unpacked size that is accepted whatever the compressed size.
pub const UNPACKED_BYTES_FREE: u64 = 64 << 20;

/// The largest ratio of unpacked to compressed size above that. Plain ids compress to a fifth, numbered ids
/// to a fiftieth; gzip itself reaches a thousandth.
pub const UNPACKED_TIMES_MAX: u64 = 100;

const BUFFER_BYTES: usize = 32 * 1024;

/// Counts the compressed bytes.
struct Packed {
    inner: Input,
    bytes: u64,
}

impl Read for Packed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// The unpacked text.
pub(super) struct GzipReader {
    /// The current member; `None` after the last one.
    member: Option<GzDecoder<BufReader<Packed>>>,
    bytes: u64,
}

impl GzipReader {
    pub(super) fn new(inner: Input) -> Self {
        let packed = BufReader::with_capacity(BUFFER_BYTES, Packed { inner, bytes: 0 });
        Self { member: Some(GzDecoder::new(packed)), bytes: 0 }
    }
}

impl Read for GzipReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buf).map_err(damage)?;
            if read > 0 || buf.is_empty() {
                self.bytes += read as u64;
                let packed = member.get_ref().get_ref().bytes;
                let most = UNPACKED_BYTES_FREE.max(packed.saturating_mul(UNPACKED_TIMES_MAX));
                return if self.bytes > most {
                    Err(io::Error::other(ReadFlaw::TooFarPacked))
                } else {
                    Ok(read)
                };
            }
            let rest = self.member.take().map(GzDecoder::into_inner);
            self.member = rest.map(next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// The next member after `rest` begins. `None` if only zero bytes follow.
fn next_member(mut rest: BufReader<Packed>) -> io::Result<Option<GzDecoder<BufReader<Packed>>>> {
    let mut has_padding = false;
    loop {
        let held = rest.fill_buf()?;
        let zeros = held.iter().take_while(|byte| **byte == 0).count();
        match held.get(zeros) {
            None if held.is_empty() => return Ok(None),
            None => {
                has_padding = true;
                rest.consume(zeros);
            }
            Some(_) if has_padding || zeros > 0 => {
                let reason = "other data follows its end".to_owned();
                return Err(io::Error::other(ReadFlaw::Gzip(reason)));
            }
            Some(_) => return Ok(Some(GzDecoder::new(rest))),
        }
    }
}

/// Distinguishes damaged data from a disk error.
fn damage(error: io::Error) -> io::Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof => {
            io::Error::other(ReadFlaw::Gzip(error.to_string()))
        }
        _ => error,
    }
}
