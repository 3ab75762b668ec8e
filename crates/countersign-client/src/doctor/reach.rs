//! Checks the connection to the gateway: name resolution, TCP, TLS.

use std::io;
use std::path::Path;

use super::report::{Check, Report};
use crate::agent::connect::{Connector, NAME_RESOLUTION, NoConnection};
use crate::gateway_url::GatewayUrl;

/// Whether the gateway can be reached. The report has the findings.
pub(super) async fn examine(connector: &Connector, report: &mut Report) -> bool {
    let gateway = &connector.gateway;
    let name = format!("{} resolves", gateway.host);
    let connection = format!("port {} accepts connections", gateway.port);
    match connector.wire().await {
        Ok(_) => {
            report.ok(Check::Name, name);
            report.ok(Check::Connection, connection);
            match gateway.tls {
                true => report.ok(Check::Tls, "the certificate is valid for this gateway"),
                false if gateway.is_confidential() => {
                    report.skip(Check::Tls, "not used: plain HTTP to this host");
                }
                false => report.fail(
                    Check::Tls,
                    "plain HTTP to another host: the network can read secrets; use https://",
                ),
            }
            true
        }
        Err(NoConnection::Name(host, error)) => {
            report.fail(
                Check::Name,
                format!("{host} does not resolve: {error}. Check the spelling and this machine's resolver"),
            );
            false
        }
        Err(NoConnection::Slow(NAME_RESOLUTION)) => {
            report.fail(
                Check::Name,
                format!(
                    "{} did not resolve within 5 s; check this machine's resolver",
                    gateway.host
                ),
            );
            false
        }
        Err(NoConnection::Tcp(address, error)) => {
            report.ok(Check::Name, name);
            let next = match error.kind() {
                io::ErrorKind::ConnectionRefused => "is the gateway running, and is this its port?",
                _ => "check the network routes and the firewalls in between",
            };
            report.fail(
                Check::Connection,
                format!("cannot connect to {address}: {error}; {next}"),
            );
            false
        }
        Err(NoConnection::Slow("TLS")) => {
            report.ok(Check::Name, name);
            report.ok(Check::Connection, connection);
            report.fail(
                Check::Tls,
                format!(
                    "no TLS handshake with {} within 5 s; does this port speak TLS?",
                    gateway.authority
                ),
            );
            false
        }
        Err(NoConnection::Slow(_)) => {
            report.ok(Check::Name, name);
            report.fail(
                Check::Connection,
                format!(
                    "no TCP connection to {} within 5 s: packets are dropped on the way; check firewalls and \
                     security groups",
                    gateway.authority
                ),
            );
            false
        }
        Err(NoConnection::Tls { text, .. }) => {
            report.ok(Check::Name, name);
            report.ok(Check::Connection, connection);
            report.fail(Check::Tls, text);
            false
        }
    }
}

/// The finding if there was no HTTP response. It checks whether the port speaks TLS.
pub(super) async fn other_protocol(
    connector: &Connector,
    ca: Option<&Path>,
    text: String,
) -> String {
    let gateway = &connector.gateway;
    if gateway.tls {
        return text;
    }
    let over_tls = GatewayUrl {
        tls: true,
        ..gateway.clone()
    };
    let speaks = match Connector::new(over_tls, ca) {
        Err(_) => false,
        Ok(connector) => match connector.wire().await {
            Ok(_) => true,
            Err(NoConnection::Tls { of_certificate, .. }) => of_certificate,
            Err(_) => false,
        },
    };
    match speaks {
        true => format!(
            "this port speaks TLS, and the URL has http://: use https://{}",
            gateway.authority
        ),
        false => text,
    }
}
