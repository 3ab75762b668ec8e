//! Client headers that the gateway does not forward.
//!
//! The signature covers method, path and body, so other headers are forwarded by an allow-list.
//! Each dropped header is counted under its name here. Some headers change the meaning of a
//! request: without `X-Vault-Wrap-TTL` the secret would come unwrapped, and without
//! `Content-Encoding` a compressed body would be stored as it is. A request with such a header is
//! refused.

use super::header_name::is_same_header;

/// A client header that is not forwarded. The set is closed, because the names are labels of a
/// metric; all other headers count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostHeader(u8);

/// A request with one of these is refused. The names are spelt as people write them.
const REFUSED: [&str; 16] = [
    "Content-Encoding",
    "Content-Range",
    "If-Unmodified-Since",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Vault-Namespace",
    "X-Vault-Wrap-TTL",
    // WebDAV (RFC 4918, section 10), on routes that add its methods: the destination, the depth,
    // and whether the request may overwrite.
    "Depth",
    "Destination",
    "If",
    "Overwrite",
    // Impersonation (Kubernetes, GitLab, Elasticsearch) and namespaces (Consul). Without them the
    // request has all the rights of the credential, or lands in the default namespace.
    "ES-Security-Runas-User",
    "Impersonate-User",
    "Sudo",
    "X-Consul-Namespace",
];

/// Headers that the metric counts by name.
const COUNTED: [&str; 22] = [
    "Authorization",
    "Baggage",
    "Cache-Control",
    "Content-Digest",
    "Content-Language",
    "Content-MD5",
    "Cookie",
    "Digest",
    "Idempotency-Key",
    "If-Modified-Since",
    "If-Range",
    "Origin",
    "Pragma",
    "Prefer",
    "Range",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Vault-Index",
    "X-Vault-MFA",
    "X-Vault-Policy-Override",
    "X-Vault-Request",
    "X-Vault-Token",
];

impl LostHeader {
    /// The number of them; all other headers count as one.
    pub const COUNT: usize = REFUSED.len() + COUNTED.len() + 1;

    /// The one of this name, in any spelling that a backend may read as it ([`is_same_header`]).
    pub fn of(name: &str) -> LostHeader {
        let mut known = REFUSED.iter().chain(&COUNTED);
        let index = known.position(|known| is_same_header(known, name));
        LostHeader(index.map_or(Self::COUNT - 1, |index| index) as u8)
    }

    /// Each of them, in the order of [`LostHeader::index`].
    pub fn all() -> [LostHeader; Self::COUNT] {
        std::array::from_fn(|index| LostHeader(index as u8))
    }

    /// Its place in [`LostHeader::all`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Whether a request with this header is refused where the header is not forwarded.
    pub fn refuses(self) -> bool {
        self.index() < REFUSED.len()
    }

    /// The sentence for a person at the client's end, whose request was refused for it `here`.
    pub fn text(self, here: &str) -> String {
        format!(
            "The header {} is not forwarded {here}, and without it the request would mean something else: \
             leave it out, or list it in forward_headers.",
            self.name()
        )
    }

    /// Its name as people write it; `other` for those that have none here.
    pub fn name(self) -> &'static str {
        let mut known = REFUSED.iter().chain(&COUNTED);
        known.nth(self.index()).copied().unwrap_or("other")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_spelling_and_is_there_once() {
        for (index, lost) in LostHeader::all().into_iter().enumerate() {
            let alias = lost.name().to_ascii_lowercase().replace('-', ".");
            assert_eq!((lost.index(), LostHeader::of(&alias)), (index, lost));
            assert_eq!(lost.refuses(), REFUSED.contains(&lost.name()));
        }
    }

    #[test]
    fn all_others_are_one_and_refuse_nothing() {
        for name in ["x-anything", "", "x-vault-wrap-ttl-2", "content", "ifs"] {
            let lost = LostHeader::of(name);
            assert_eq!((lost.name(), lost.refuses()), ("other", false), "{name}");
        }
    }
}
