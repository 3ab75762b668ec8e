//! The way to the gateway: its name, the connection, TLS.

use std::io;
use std::path::Path;

use rustls::{CertificateError, Error as TlsError};

use super::report::{Check, Report};
use crate::agent::connect::{Connector, NoConnection};
use crate::config::GatewayUrl;

/// Whether there is a way; what is wrong with it is in the report.
pub(super) async fn examine(connector: &Connector, ca: Option<&Path>, report: &mut Report) -> bool {
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
        Err(NoConnection::Slow(step @ "the look-up of its name")) => {
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
        Err(NoConnection::Tls(error)) => {
            report.ok(Check::Name, name);
            report.ok(Check::Connection, connection);
            report.fail(Check::Tls, tls(&error, gateway, ca));
            false
        }
    }
}

/// What is wrong with TLS, and what to do.
fn tls(error: &io::Error, gateway: &GatewayUrl, ca: Option<&Path>) -> String {
    let found = error.get_ref().and_then(|it| it.downcast_ref::<TlsError>());
    match found {
        Some(TlsError::InvalidCertificate(why)) => certificate(why, gateway, ca),
        Some(TlsError::InvalidMessage(_)) => format!(
            "what listens there does not speak TLS: use http://{} if that is meant, or another port",
            gateway.authority
        ),
        Some(other) => format!("{other}"),
        None => format!("it breaks off ({error}): does this port speak TLS?"),
    }
}

fn certificate(why: &CertificateError, gateway: &GatewayUrl, ca: Option<&Path>) -> String {
    match why {
        CertificateError::UnknownIssuer => match ca {
            Some(file) => format!(
                "the certificate is of an authority that is not in {}: name the right file, or look who answers there",
                file.display()
            ),
            None => "the certificate is of an authority that this system does not know: name it with --cacert FILE"
                .into(),
        },
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the certificate is not for the name {}: use a name that is in it, or have it made for this one",
            gateway.host
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired: renew it, unless this machine's clock is ahead".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet: this machine's clock is behind, or the gateway's was ahead".into()
        }
        other => format!("the certificate is not taken: {other}"),
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
            Err(NoConnection::Tls(error)) => {
                let found = error.get_ref().and_then(|it| it.downcast_ref::<TlsError>());
                matches!(found, Some(TlsError::InvalidCertificate(_)))
            }
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
