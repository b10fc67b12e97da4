//! That a certificate nobody vouches for ends the call before anything is sent.
//!
//! The key in `tests/data` was made for this test and is used nowhere else.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::tests::{call, settings};
use super::*;

const CERTIFICATE: &[u8] = include_bytes!("../../../tests/data/untrusted-cert.pem");
const KEY: &[u8] = include_bytes!("../../../tests/data/untrusted-key.pem");

/// Takes one connection; comes back with the clear text it was sent, or why there was none.
fn serve_once() -> (String, JoinHandle<std::io::Result<usize>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("is a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("is a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("has versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("fits");
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        let connection = ServerConnection::new(Arc::new(config)).expect("starts");
        StreamOwned::new(connection, stream).read(&mut [0; 1024])
    });
    (format!("https://localhost:{port}"), server)
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent() {
    for trust in [Trust::System, Trust::Nobody] {
        let (url, server) = serve_once();
        let Ok(transport) = HttpTransport::trusting(&settings(&url), trust) else {
            // A machine without certificates refuses earlier still.
            assert!(trust == Trust::System);
            continue;
        };
        let reply = transport.send(&call()).await;
        assert_eq!((reply.answer, reply.http_status), (Answer::NotConnected, None));
        assert!(reply.info.contains("certificate"), "{}", reply.info);
        let heard = server.join().expect("no panic").expect_err("nothing is sent");
        assert!(heard.to_string().contains("UnknownCA"), "{heard}");
    }
}
