//! The remote API as the runner sees it: one call, one reply.
//!
//! Duty: carry a chunk to `batch_set_chitchat` (or its sister for the other library) and
//! bring back what came of it, with everything needed for that: where the service is,
//! who calls, and the UserSig that proves it. Relies on the contract notes (sections 1, 2,
//! 6 and 7) and on [`crate::domain::verdict`] for the kinds of answer. Never waits, never repeats a
//! call and never decides what an answer means; a failed call is a [`Response`] like any other.

mod deadline;
mod failure;
mod http;
mod members;
mod probe;
mod proxy;
mod region;
mod response;
mod retry_after;
mod usersig;
mod usersig_claims;

use std::future::Future;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::job::{App, QuestionId, Status};
use crate::domain::verdict::ResponseKind;

// No API: the way in for tests that feed it with anything.
pub use http::{ClientError, HttpSettings, HttpTransport};
pub use probe::{ConnectError, ProbeResult, host_to_resolve, probe, resolve};
pub use proxy::{Proxy, ProxyError, Route, route};
pub use region::{Endpoint, Region};
#[doc(hidden)]
pub use response::{INFO_CHARS_MAX, printable, read as read_answer};
pub use usersig::{IDENTIFIER_BYTES_MAX, Signer, check_identifier, make_usersig};
pub use usersig_claims::{UserSigClaims, read_usersig};

/// One request: these questions of this application shall have this status.
#[derive(Debug, Clone)]
pub struct SetStatusRequest {
    /// The application and which of its libraries; this decides the remote command.
    pub app: App,
    /// The status that all of the questions shall have.
    pub status: Status,
    /// The questions.
    pub ids: Vec<QuestionId>,
    /// The proof that the caller may do it.
    pub usersig: SecretString,
}

/// A read of the app that changes nothing and is as small as the service allows: the first
/// question of its library. It shows whether the app is alive.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The application and which of its libraries; this decides the remote command.
    pub app: App,
    /// The proof that the caller may do it.
    pub usersig: SecretString,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The part that decides.
    pub kind: ResponseKind,
    /// The service's `ErrorInfo`, or what went wrong on the way. For people to read and
    /// never to decide on: printable, at most 300 characters, without a secret and without
    /// the address called, whose query carries the UserSig.
    pub info: String,
    /// The HTTP status, when one came.
    pub http_status: Option<u16>,
    /// How long the service asks to wait before the next request (`Retry-After`), as it said it.
    pub retry_after: Option<Duration>,
}

/// The way to the service. The runner knows nothing else about it.
pub trait Transport: Send + Sync + 'static {
    /// Sends `call` at most once and returns what came of it, within a time that the
    /// transport limits by itself. A dropped future gives the call up: whether it was
    /// sent is then not known.
    fn send(&self, call: &SetStatusRequest) -> impl Future<Output = Response> + Send;

    /// Reads from the app, as [`Transport::send`] sends. The service counts reads apart, 5 a
    /// second for their own command.
    fn read(&self, call: &ReadRequest) -> impl Future<Output = Response> + Send;
}
