//! Writers for stdout and stderr.
//!
//! The parent process shares these descriptors and may have set them to non-blocking. A write then waits
//! until the descriptor is writable, where the standard library would return an error and lose the remaining
//! bytes. Unbuffered, so no flush is needed.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;

use console::Term;
use indicatif::TermLike;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Waits where a write would block.
pub(super) struct BlockingWriter<F>(pub(super) F);

impl<F: AsFd> Write for BlockingWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                Err(Errno::AGAIN) => wait_until_writable(&self.0)?,
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait_until_writable(to: &impl AsFd) -> io::Result<()> {
    let mut wanted = [PollFd::new(to, PollFlags::OUT)];
    match poll(&mut wanted, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The terminal of a progress bar, without errors: indicatif panics if the terminal is gone.
pub(super) struct InfallibleTerminal(pub(super) Term);

impl fmt::Debug for InfallibleTerminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the terminal")
    }
}

impl TermLike for InfallibleTerminal {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines).or(Ok(()))
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines).or(Ok(()))
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns).or(Ok(()))
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns).or(Ok(()))
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line).or(Ok(()))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text).or(Ok(()))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line().or(Ok(()))
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush().or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;

    use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    #[test]
    fn failing_terminal_does_not_panic() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let terminal = Term::read_write_pair(File::open("/dev/null").unwrap(), full);
        let target = ProgressDrawTarget::term_like(Box::new(InfallibleTerminal(terminal)));
        let bars = MultiProgress::with_draw_target(target);
        let bar = bars.add(ProgressBar::new(2));
        bar.tick();
        bars.suspend(|| {});
        bar.finish_and_clear();
    }

    #[test]
    fn write_to_full_nonblocking_pipe_waits() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        // More than the capacity of any pipe.
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || BlockingWriter(writer).write_all(&copy));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        writing.join().unwrap().unwrap();
        assert!(got == sent);
    }
}
