//! The remote API as the runner sees it: one request, one response.
//!
//! It sends a chunk to `batch_set_chitchat` (or `batch_set_faq`) and returns the response. It knows the
//! address of the service, the account and its UserSig. It never waits for a slot, never repeats a request
//! and never decides the verdict of a response. A request that failed on the way has a [`Response`] like any
//! other.

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

use crate::domain::job::{App, QuestionId, TargetStatus};
use crate::domain::verdict::ResponseKind;

// Not part of the API: tests and the fuzzer call these with arbitrary input.
pub use http::{ClientError, HttpSettings, HttpTransport};
pub use probe::{ConnectError, ProbeResult, host_to_resolve, probe, resolve};
pub use proxy::{Proxy, ProxyError, Route, route};
pub use region::{Endpoint, Region};
#[doc(hidden)]
pub use response::{INFO_CHARS_MAX, printable, read as parse_response};
pub use usersig::{IDENTIFIER_BYTES_MAX, Signer, check_identifier, make_usersig};
pub use usersig_claims::{UserSigClaims, read_usersig};

/// A request that sets the status of questions of one app.
#[derive(Debug, Clone)]
pub struct SetStatusRequest {
    /// Its library decides the remote command.
    pub app: App,
    /// The target status of all questions.
    pub status: TargetStatus,
    pub ids: Vec<QuestionId>,
    pub usersig: SecretString,
}

/// A read of the first question of a library, the smallest that the service allows. It shows whether the app
/// is alive.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Its library decides the remote command.
    pub app: App,
    pub usersig: SecretString,
}

/// What came back for a request, or what went wrong on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The part that decides the verdict.
    pub kind: ResponseKind,
    /// The service's `ErrorInfo`, or what went wrong on the way. It is for people and never decides anything.
    /// It is printable, has at most 300 characters, and contains neither a secret nor the address, whose
    /// query has the UserSig.
    pub info: String,
    /// The HTTP status, when one came.
    pub http_status: Option<u16>,
    /// The `Retry-After` of the service, not yet limited.
    pub retry_after: Option<Duration>,
}

/// The transport to the service. The runner uses no other.
pub trait Transport: Send + Sync + 'static {
    /// Sends `call` at most once and returns its response within a time that the transport limits
    /// itself. If the future is dropped, it is not known whether the request was sent.
    fn send(&self, call: &SetStatusRequest) -> impl Future<Output = Response> + Send;

    /// Reads from the app, under the same rules as [`Transport::send`]. The service counts reads separately:
    /// 5 a second for their own command.
    fn read(&self, call: &ReadRequest) -> impl Future<Output = Response> + Send;
}
