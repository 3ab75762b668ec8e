//! The properties that the fuzzer looks for exceptions to, for a bounded number of inputs:
//! arbitrary bytes, and inputs that are nearly good.

#[path = "../../fuzz/properties.rs"]
mod properties;

use proptest::prelude::*;

/// Good inputs with some bytes replaced, left out or put in.
fn nearly(good: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..4);
    (prop::sample::select(good), changes).prop_map(|(good, changes)| {
        let mut bytes = good.to_vec();
        for (at, byte, kind) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        bytes
    })
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

const TARGETS: &[&[u8]] = &[
    b"/",
    b"/v1/secret/a?version=2",
    b"/v1/secret/%C3%A9%23",
    b"/a/b/",
];

const RULES: &[&[u8]] = &[
    b"/v1/secret/a/b\nread,LIST /v1/secret/*/b",
    b"/a/b/\nany /a/**",
    b"/%C3%A9\nGET /%C3%A9",
];

const HEADERS: &[&[u8]] = &[
    b"web-1\n1800000000\nAAAAAAAAAAAAAAAAAAAAAA==\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
];

const MESSAGES: &[&[u8]] = &[
    b"GET\n/a:b\n1800000000\nAAAAAAAAAAAAAAAAAAAAAA==\nGET\n/a:b\n1800000000\nAAAAAAAAAAAAAAAAAAAAAA==\n",
    b"GET\n/a\n1800000000\nAAAAAAAAAAAAAAAAAAAAAA==\nbPUT\n/a\n1800000000\nAAAAAAAAAAAAAAAAAAAAAA==\nb",
];

const REGISTRIES: &[&[u8]] = &[
    include_bytes!("../../conf/machines.yaml"),
    b"machines:\n  - id: a\n    public_keys: [\"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]\n",
];

const CONFIGURATIONS: &[&[u8]] = &[
    include_bytes!("../../conf/countersign.yaml"),
    b"listeners: [{ address: 127.0.0.1:1 }]\nregistry: { file: m }\nupstreams: { a: { servers: ['http://a:1'], \
      credential: { header: X-Vault-Token, env: A } } }\nroutes: [{ path: /, upstream: a }]\n",
];

const LOGS: &[&[u8]] = &[
    br#"{"ts":"2027-01-15T08:00:01.000Z","request_id":"r","decision":"accepted","auth":"bearer","token_hash":"000102030405060708090a0b0c0d0e0f","client_ip":"::1","path":"/a","route":"/"}
{"request_id":"r","decision":"response","status":200}
{"ts":"2027-01-15T08:00:01.000Z","request_id":"s","decision":"observed","auth":"none","code":"clock_skew","claimed_machine":"a","client_ip":"::1","path":"/a","route":"/"}
{"ts":"2027-01-15T08:00:01.000Z","request_id":"s","decision":"refused","auth":"none","code":"no_route","path":"/a"}
"#,
    br#"{"ts":"2027-01-15T08:00:01.000Z","request_id":"t","decision":"accepted","auth":"signature","machine":{"id":"a"},"path":"/a/b/c/d","route":"/a"}
{"decision":"summary","left_out":{"no_route":18446744073709551615}}

{"decision":"summary","left_out":{"no_route":1}}
"#,
];

const REQUESTS: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: gw\r\nX-Machine-Id: a\r\nX-Timestamp: 1\r\nX-Nonce: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
      X-Signature: a\r\nContent-Length: 3\r\n\r\nabc",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_target_has_one_reading(data in prop_oneof![anything(), nearly(TARGETS)]) {
        properties::target(&data);
    }

    #[test]
    fn a_rule_is_what_it_says(data in prop_oneof![anything(), nearly(RULES)]) {
        properties::rule(&data);
    }

    #[test]
    fn signing_headers_have_one_spelling(data in prop_oneof![anything(), nearly(HEADERS)]) {
        properties::headers(&data);
    }

    #[test]
    fn what_is_signed_is_one_request(data in nearly(MESSAGES)) {
        properties::message(&data);
    }

    #[test]
    fn in_a_report_each_line_and_each_request_counts_once(data in prop_oneof![anything(), nearly(LOGS)]) {
        properties::report(&data);
    }

    #[test]
    fn a_configuration_is_taken_or_explained(data in prop_oneof![anything(), nearly(CONFIGURATIONS)]) {
        properties::configuration(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_registry_is_taken_or_explained(data in prop_oneof![anything(), nearly(REGISTRIES)]) {
        properties::registry(&data);
    }

    #[test]
    fn an_unsigned_request_gets_nowhere(data in prop_oneof![anything(), nearly(REQUESTS)]) {
        properties::request(&data);
    }
}
