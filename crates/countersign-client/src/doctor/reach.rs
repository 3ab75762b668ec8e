//! The way to the gateway: its name, the connection, TLS.

use std::io;
use std::path::Path;

use super::report::{Check, Report};
use crate::agent::connect::{Connector, NAME_RESOLUTION, NoConnection};
use crate::gateway_url::GatewayUrl;

/// Whether there is a way; what is wrong with it is in the report.
pub(super) async fn examine(connector: &Connector, report: &mut Report) -> bool {
    let gateway = &connector.gateway;
    let name = format!("{} resolves", gateway.host);
    let connection = format!("port {} takes connections", gateway.port);
    match connector.wire().await {
        Ok(_) => {
            report.ok(Check::Name, name);
            report.ok(Check::Connection, connection);
            match gateway.tls {
                true => report.ok(Check::Tls, "the certificate is the gateway's"),
                false if gateway.is_confidential() => {
                    report.skip(Check::Tls, "plain HTTP to this very host");
                }
                false => report.fail(
                    Check::Tls,
                    "plain HTTP to another host: secrets can be read on the way; use https://",
                ),
            }
            true
        }
        Err(NoConnection::Name(host, error)) => {
            report.fail(
                Check::Name,
                format!("{host} does not resolve ({error}): look at the spelling, and at this machine's resolver"),
            );
            false
        }
        Err(NoConnection::Slow(step @ NAME_RESOLUTION)) => {
            report.fail(
                Check::Name,
                format!("{step} took longer than 5 s: look at this machine's resolver"),
            );
            false
        }
        Err(NoConnection::Tcp(address, error)) => {
            report.ok(Check::Name, name);
            let what = match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "nothing listens there: is the gateway running, and is it this port?"
                }
                _ => "look at the routes and the firewalls in between",
            };
            report.fail(Check::Connection, format!("{address}: {error}; {what}"));
            false
        }
        Err(NoConnection::Slow("TLS")) => {
            report.ok(Check::Name, name);
            report.ok(Check::Connection, connection);
            report.fail(
                Check::Tls,
                "no agreement on TLS within 5 s: does this port speak it?",
            );
            false
        }
        Err(NoConnection::Slow(_)) => {
            report.ok(Check::Name, name);
            report.fail(
                Check::Connection,
                "no connection within 5 s: something in between drops packets; look at firewalls and security groups",
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

/// What to say where there was no HTTP answer: plain HTTP may have been spoken to a port of TLS.
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
            "this port speaks TLS, and http:// does not: use https://{}",
            gateway.authority
        ),
        false => text,
    }
}
