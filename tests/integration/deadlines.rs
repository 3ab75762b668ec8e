//! Waits that would have no end without a deadline of our own.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, Options};
use crate::support::http2::Http2;

fn with_tls(backend: &Backend) -> Gateway {
    let more = "limits: { header_timeout: 300ms }\n".into();
    Gateway::with(
        backend,
        Options {
            more,
            tls: true,
            ..Options::default()
        },
    )
}

#[test]
fn a_tls_client_that_never_shakes_hands_is_closed() {
    let backend = Backend::start();
    let gateway = with_tls(&backend);
    let mut stream = TcpStream::connect(gateway.tls_address.unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn an_http2_client_that_never_sends_its_preface_is_closed() {
    let backend = Backend::start();
    let gateway = with_tls(&backend);
    assert!(Http2::is_closed_in_silence(
        gateway.tls_address.unwrap(),
        gateway.folder.path()
    ));
}

#[test]
fn a_silent_http2_client_does_not_hold_up_an_idle_shutdown() {
    let backend = Backend::start();
    let mut gateway = Gateway::with(
        &backend,
        Options {
            tls: true,
            ..Options::default()
        },
    );
    let _client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    // The grace period is ten seconds; the harness waits for the end.
    gateway.stop();
}
