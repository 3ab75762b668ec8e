//! A Pingora proxy that does nothing but forward, to tell what Pingora costs by itself.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::Result;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

struct Bare {
    backend: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend, false, String::new())))
    }
}

/// Serves until the process is ended, with as many threads as the gateway has by default.
pub fn run(listener: &str, backend: SocketAddr) -> ! {
    let conf = ServerConf {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { backend });
    service.add_tcp(listener);
    server.add_service(service);
    server.run_forever()
}
