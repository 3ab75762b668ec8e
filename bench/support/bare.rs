//! What Pingora costs by itself: a proxy that does nothing but forward, and keeps no log.

use std::net::SocketAddr;
use std::path::Path;

use pingora::listeners::tls::TlsSettings;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

struct Bare(SocketAddr);

#[async_trait::async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// Serves until the process is told to end, with as many threads as the gateway has by default; at
/// another address too, if it is given, with TLS and the certificate of a folder.
pub fn serve(plain: SocketAddr, tls: Option<(SocketAddr, &Path)>, backend: SocketAddr) -> ! {
    let conf = ServerConf {
        threads: std::thread::available_parallelism().unwrap().get(),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut service = http_proxy_service(&server.configuration, Bare(backend));
    service.add_tcp(&plain.to_string());
    if let Some((address, folder)) = tls {
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let settings = TlsSettings::intermediate(&file("cert.pem"), &file("key.pem"));
        let mut settings = settings.unwrap();
        settings.enable_h2();
        service.add_tls_with_settings(&address.to_string(), None, settings);
    }
    server.add_service(service);
    server.run_forever()
}
