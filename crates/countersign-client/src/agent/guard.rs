//! Refuses requests of web pages. Any page can make a browser on this host send requests to the
//! agent (CSRF, DNS rebinding). The guard recognises headers that a page cannot remove.

use http::header::{HOST, ORIGIN};
use http::request::Parts;

use super::answer::AgentFault;
use crate::settings::Listen;

/// Names that always denote this host, independent of the resolver.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The accepted `Host` values.
pub(super) struct Guard {
    /// Lower case, compared in full.
    hosts: Vec<String>,
}

impl Guard {
    /// The guard of an agent on `port` (`None` on a Unix socket). `more` are the operator's names,
    /// as sent; a name without a port is also accepted with the agent's port.
    pub(super) fn new(port: Option<u16>, listen: &Listen, more: &[String]) -> Guard {
        let mut names: Vec<String> = OWN_NAMES.map(str::to_owned).into();
        if let Listen::Tcp(address) = listen
            && !address.ip().is_unspecified()
        {
            names.push(match address.ip() {
                std::net::IpAddr::V4(ip) => ip.to_string(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        let with_port = |name: &String| port.map(|port| format!("{name}:{port}"));
        // Clients omit the default port, and a Unix socket has none.
        let bare = port.is_none_or(|port| port == 80);
        let mut hosts: Vec<String> = names.iter().chain(more).filter_map(with_port).collect();
        if bare {
            hosts.extend(names);
        }
        hosts.extend(more.iter().cloned());
        Guard { hosts }
    }

    /// Refuses requests of web pages. It fails closed: a missing or malformed `Host` is refused.
    ///
    /// - `Host` must occur once and be an accepted name. With DNS rebinding, a page's name resolves
    ///   to this host. The browser then treats the agent as the page's origin and sends no
    ///   `Origin`, but `Host` has the page's name.
    /// - `Origin` and `Sec-Fetch-Site` are refused. Only browsers send them, also in preflights.
    ///   Pages cannot remove them, because they are forbidden header names of the Fetch standard.
    ///   `Sec-Fetch-Mode` is allowed, because Node's `fetch` sends it too.
    pub(super) fn admit(&self, request: &Parts) -> Result<(), AgentFault> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|value| value.to_str().ok());
        let known = host.is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            self.hosts.contains(&host)
        });
        if !known || hosts.next().is_some() {
            return Err(AgentFault::ForbiddenHost);
        }
        let from_a_page = |name: &http::HeaderName| {
            let name = name.as_str();
            name == ORIGIN.as_str()
                || name == "sec-fetch-site"
                || name.starts_with("access-control-request-")
        };
        match request.headers.keys().any(from_a_page) {
            true => Err(AgentFault::ForbiddenOrigin),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn tcp(more: &[&str]) -> Guard {
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        let listen = Listen::Tcp("127.0.0.1:8200".parse().unwrap());
        Guard::new(Some(8200), &listen, &more)
    }

    fn verdict(guard: &Guard, headers: &[(&str, &str)]) -> Result<(), AgentFault> {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn this_host_by_its_own_names_and_port_is_let_in() {
        for host in [
            "localhost:8200",
            "127.0.0.1:8200",
            "[::1]:8200",
            "LOCALHOST:8200",
        ] {
            assert_eq!(verdict(&tcp(&[]), &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn another_name_or_port_is_refused() {
        for host in [
            "evil.example:8200",
            "localhost",
            "localhost:80",
            "localhost.evil.example:8200",
            "127.0.0.1.nip.io:8200",
            "127.0.0.2:8200",
            "",
            "localhost:8200, evil",
        ] {
            let found = verdict(&tcp(&[]), &[("host", host)]);
            assert_eq!(found, Err(AgentFault::ForbiddenHost), "{host}");
        }
    }

    #[test]
    fn no_host_and_two_hosts_are_refused() {
        assert_eq!(verdict(&tcp(&[]), &[]), Err(AgentFault::ForbiddenHost));
        let twice = [("host", "localhost:8200"), ("host", "localhost:8200")];
        assert_eq!(verdict(&tcp(&[]), &twice), Err(AgentFault::ForbiddenHost));
    }

    #[test]
    fn a_name_of_the_operators_is_let_in() {
        let guard = tcp(&["vault.local"]);
        assert_eq!(verdict(&guard, &[("host", "vault.local:8200")]), Ok(()));
        assert_eq!(verdict(&guard, &[("host", "vault.local")]), Ok(()));
    }

    #[test]
    fn on_a_socket_there_is_no_port_to_name() {
        let guard = Guard::new(None, &Listen::Unix("/s".into()), &[]);
        assert_eq!(verdict(&guard, &[("host", "localhost")]), Ok(()));
        assert_eq!(
            verdict(&guard, &[("host", "evil")]),
            Err(AgentFault::ForbiddenHost)
        );
    }

    #[test]
    fn what_nodes_fetch_adds_is_no_browsers() {
        let node = [
            ("host", "localhost:8200"),
            ("accept", "*/*"),
            ("accept-language", "*"),
            ("sec-fetch-mode", "cors"),
            ("user-agent", "node"),
        ];
        assert_eq!(verdict(&tcp(&[]), &node), Ok(()));
    }

    #[test]
    fn whatever_a_browser_adds_is_refused() {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:8200"),
            ("origin", "null"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("access-control-request-method", "GET"),
        ] {
            let found = verdict(&tcp(&[]), &[("host", "localhost:8200"), (name, value)]);
            assert_eq!(found, Err(AgentFault::ForbiddenOrigin), "{name}: {value}");
        }
    }
}
