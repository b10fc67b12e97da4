//! Helpers for tests of the binary: sandboxes without a limit, exit codes, reports as rows, stderr
//! lines as events, and the bytes that were really sent.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use deskbatch::sandbox::{Sandbox, SandboxSettings};

use rustix::process::{Pid, Signal, kill_process};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::place::{Place, data, said};

/// A sandbox without a rate limit, otherwise as `change` sets it.
pub async fn sandbox_with(change: impl FnOnce(&mut SandboxSettings)) -> Sandbox {
    let mut settings = SandboxSettings { rate_limit: 0, ..SandboxSettings::default() };
    change(&mut settings);
    Sandbox::start(settings).await.unwrap()
}

/// A sandbox without a rate limit.
pub async fn sandbox() -> Sandbox {
    sandbox_with(|_| {}).await
}

/// Sends the sandbox an unknown path; the response takes the full latency.
pub fn call_for_nothing(sandbox: SocketAddr) {
    let mut stream = TcpStream::connect(sandbox).unwrap();
    let head = "POST /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n";
    write!(stream, "{head}\r\n{{}}").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// Runs the command to its end and checks the exit code.
#[track_caller]
pub fn ends(mut command: Command, code: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}{}", data(&output), said(&output));
    output
}

/// The same command, started through the program `by`, which executes it.
pub fn by_way_of(by: &[&str], command: &Command) -> Command {
    let mut way = Command::new(by[0]);
    way.args(&by[1..]).arg(command.get_program()).args(command.get_args());
    way.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => way.env(name, value),
            None => way.env_remove(name),
        };
    }
    way
}

/// The same with `input` on stdin.
#[track_caller]
pub fn ends_with_input(mut command: Command, input: &[u8], code: i32) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}{}", data(&output), said(&output));
    output
}

/// Asserts that `text` has each of `parts`.
#[track_caller]
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

impl Place {
    /// A command for `sandbox`, at a rate that only a local endpoint allows.
    pub fn fast(&self, sandbox: &Sandbox, args: &[&str]) -> Command {
        let mut command = self.deskbatch_toward(sandbox, args);
        command.env("DESKBATCH_RATE", "200");
        command
    }

    /// Jobs by state: pending, in flight, succeeded, failed, cancelled, superseded.
    #[track_caller]
    pub fn counts(&self) -> [u64; 6] {
        let status = self.status();
        ["pending", "in_flight", "succeeded", "failed", "cancelled", "superseded"]
            .map(|key| status[key].as_u64().unwrap())
    }

    /// The rows of `report` with `args`, by column name.
    #[track_caller]
    pub fn report(&self, args: &[&str]) -> Vec<BTreeMap<String, String>> {
        let mut command = self.deskbatch(&["report"]);
        command.args(args);
        let output = ends(command, 0);
        let mut csv = csv::Reader::from_reader(output.stdout.as_slice());
        csv.deserialize().collect::<Result<_, _>>().unwrap()
    }

    /// The names of the files in this folder.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A running program; killed on drop if the test fails before its end.
pub struct Going {
    child: Child,
    talk: BufReader<ChildStderr>,
    /// Its stderr so far.
    pub said: String,
}

impl Going {
    pub fn start(mut command: Command) -> Self {
        Self::with(command.stdout(Stdio::null()))
    }

    /// The same, with its stdout.
    pub fn start_heard(mut command: Command) -> (Self, ChildStdout) {
        let mut going = Self::with(command.stdout(Stdio::piped()));
        let data = going.child.stdout.take().unwrap();
        (going, data)
    }

    fn with(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let talk = BufReader::new(child.stderr.take().unwrap());
        Self { child, talk, said: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Returns once stderr contains `text`.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        while !self.said.contains(text) {
            let read = self.talk.read_line(&mut self.said).unwrap();
            assert!(read > 0, "{text:?} was never said:\n{}", self.said);
        }
    }

    /// Waits for its end with any exit code.
    pub fn waits(&mut self) {
        self.child.wait().unwrap();
    }

    /// Waits for its end, checks the exit code and returns all of its stderr.
    #[track_caller]
    pub fn ends(mut self, code: i32) -> String {
        self.talk.read_to_string(&mut self.said).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.said);
        std::mem::take(&mut self.said)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy or server that records what the client sends.
pub struct Recorder {
    addr: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    /// Forwards everything to `server`.
    pub fn before(server: SocketAddr) -> Self {
        Self::start(move |client, sent| {
            let server = TcpStream::connect(server).unwrap();
            let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pass(from, to, |_| {}));
            pass(client, server, |bytes| sent.lock().unwrap().extend_from_slice(bytes));
        })
    }

    /// Responds to each request with `answer` of its first line.
    pub fn responding(response: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::serving(move |first, client| client.write_all(response(first).as_bytes()))
    }

    /// Passes the first line of each request to `serve`, which writes the response. The connection
    /// closes after that, or when the client closes it.
    pub fn serving(
        serve: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let serve = Arc::new(serve);
        Self::start(move |mut client, sent| {
            if let Ok(first) = one_request(&mut client) {
                sent.lock().unwrap().extend_from_slice(first.as_bytes());
                let _ = serve(first.trim_end(), &mut client);
            }
            let _ = client.shutdown(Shutdown::Both);
        })
    }

    /// The same behind TLS. Bytes that cannot be decrypted are not recorded.
    pub fn encrypted(
        config: ServerConfig,
        response: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let (config, response) = (Arc::new(config), Arc::new(response));
        Self::start(move |client, sent| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut client = StreamOwned::new(connection, client);
            if let Ok(first) = one_request(&mut client) {
                sent.lock().unwrap().extend_from_slice(first.as_bytes());
                let _ = client.write_all(response(first.trim_end()).as_bytes());
            }
            client.conn.send_close_notify();
            let _ = client.flush();
            let _ = client.sock.shutdown(Shutdown::Both);
        })
    }

    /// Passes each connection to `serve`, which decides what to record.
    pub fn start(serve: impl Fn(TcpStream, Arc<Mutex<Vec<u8>>>) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, kept, serve) = (client.unwrap(), Arc::clone(&kept), serve.clone());
                thread::spawn(move || serve(client, kept));
            }
        });
        Self { addr, sent }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Everything recorded so far.
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap()).into_owned()
    }

    /// The recorded UserSigs without duplicates.
    pub fn usersigs(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .sent()
            .split("usersig=")
            .skip(1)
            .filter_map(|rest| rest.split(['&', ' ']).next())
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Reads one whole request and returns its first line.
fn one_request(client: &mut impl Read) -> io::Result<String> {
    let mut head = BufReader::new(client);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (mut line, mut length) = (String::new(), 0);
    while head.read_line(&mut line)? > 2 {
        if let Some(("content-length", n)) = line.to_lowercase().trim().split_once(": ") {
            length = n.parse().unwrap();
        }
        line.clear();
    }
    head.read_exact(&mut vec![0; length])?;
    Ok(first)
}

/// Copies until one side closes, then closes the other side.
fn pass(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
