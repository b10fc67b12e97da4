//! Shared helpers of the sandbox's tests: a separate signer and a well-formed call.
//!
//! The signer intentionally shares no code with the client's; the head of `sandbox` says why. It writes
//! stored zlib blocks, as the vendor's Go version does.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, write::ZlibEncoder};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};

/// The path of the main command.
pub(super) const PATH: &str = "/v4/openim_console_http_svc/batch_set_chitchat";

/// A UserSig that is valid from `time` for `expire` seconds.
pub(super) fn sign(key: &str, identifier: &str, sdkappid: u64, time: i64, expire: i64) -> String {
    let text = format!(
        "TLS.identifier:{identifier}\nTLS.sdkappid:{sdkappid}\nTLS.time:{time}\nTLS.expire:{expire}\n"
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length will do");
    mac.update(text.as_bytes());
    let json = serde_json::json!({
        "TLS.ver": "2.0",
        "TLS.identifier": identifier,
        "TLS.sdkappid": sdkappid,
        "TLS.expire": expire,
        "TLS.time": time,
        "TLS.sig": STANDARD.encode(mac.finalize().into_bytes()),
    });
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::none());
    zlib.write_all(json.to_string().as_bytes()).expect("memory takes it");
    let packed = zlib.finish().expect("memory takes it");
    STANDARD.encode(packed).replace('+', "*").replace('/', "-").replace('=', "_")
}

/// A valid query with a UserSig made at `second` for a day.
pub(super) fn query_at(second: i64) -> String {
    let usersig = sign(SANDBOX_KEY, SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID, second, 86_400);
    format!(
        "usersig={usersig}&sdkappid={SANDBOX_SDKAPPID}&identifier={SANDBOX_IDENTIFIER}&random=7&contenttype=json"
    )
}

/// A body that sets these ids to `status`.
pub(super) fn body(status: i64, ids: &[&str]) -> String {
    serde_json::json!({ "StandardQuestionIds": ids, "Status": status }).to_string()
}
