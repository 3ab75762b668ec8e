"""Cases about the request itself: body, target, method, query.

Unless a case is about what was signed, the signature is good over exactly what was sent: only a gateway that overlooks
the defect can let the request in.
"""

import zlib

from signer import PATH, case

JSON = b'{"projectId":"proj_1"}'
BINARY = bytes(range(256)) + b"\r\n0\r\n\r\n"


def request_cases():
    return bodies() + too_large() + targets() + methods() + queries()


def bodies():
    gzipped = gzip_stored(JSON)
    gzip = [("Content-Encoding", "gzip")]
    crosses = ["Content-Encoding"]
    return [
        case("accepted-get", "a read without a body"),
        case("accepted-get-with-body", "a body on GET is hashed like any other", body=JSON),
        case("accepted-delete-with-body", "a body on DELETE is hashed like any other", method="DELETE", body=JSON),
        case("accepted-post", "POST with a JSON body", method="POST", target="/v1/secrets/list", body=JSON),
        case("accepted-post-empty-body", "Content-Length: 0", method="POST", framing="length"),
        case("accepted-post-without-length", "neither a body nor a Content-Length", method="POST"),
        case("accepted-put-70-kib", "a body larger than 64 KiB", method="PUT", body=b"0123456789abcdef" * 4480),
        case("accepted-body-binary", "every byte value, and what looks like a last chunk", method="PUT", body=BINARY),
        case("accepted-body-gzip", "hashed as sent, before content decoding", method="PUT", body=gzipped, extra=gzip,
             forward_headers=crosses),
        case("header-content-encoding-not-forwarded", "the backend would store the gzip as it is",
             "header_not_forwarded", method="PUT", body=gzipped, extra=gzip),
        case("header-content-encoding-alias", "content.encoding is content-encoding to a backend that folds names",
             "header_not_forwarded", method="PUT", body=gzipped, extra=[("content.encoding", "gzip")]),
        case("accepted-body-at-limit", "as long as the route allows", method="PUT", body=JSON, max_body=len(JSON)),
        case("accepted-chunked", "hashed after de-chunking", method="POST", body=JSON, framing=[1, 16, 5]),
        case("accepted-chunked-binary", "chunks cut through CR LF", method="PUT", body=BINARY, framing=[257, 6]),
        case("accepted-chunked-empty", "only the last chunk: the hash of nothing", method="POST", framing=[]),
        case("body-hash-after-decoding", "signed the hash of the gzip's content", "bad_signature", method="PUT",
             body=gzipped, extra=gzip, forward_headers=crosses, signed={"body": JSON}),
        case("body-hash-before-dechunking", "signed the hash of the chunks with their framing", "bad_signature",
             method="POST", body=JSON, framing=[22], signed={"body": b"16\r\n" + JSON + b"\r\n0\r\n\r\n"}),
    ]


def too_large():
    return [
        case("body-one-byte-too-long", "max_body + 1, declared", "body_too_large", method="PUT", body=JSON,
             max_body=len(JSON) - 1),
        case("body-one-byte-too-long-chunked", "max_body + 1, undeclared", "body_too_large", method="PUT", body=JSON,
             framing=[16, 6], max_body=len(JSON) - 1),
    ]


def targets():
    every_class = "/v1/AZaz09-._~/!$&'()*+,=/:@/%20%22%C3%A9%F0%9F%94%91"
    longest = "/v1/" + "a" * 4092
    good = [
        case("accepted-path-every-class", "unreserved, sub-delims but ;, : and @, encoded bytes", target=every_class),
        case("accepted-path-percent-encoded", "upper-case hex", target="/v1/secret/caf%C3%A9%20%5B1%5D"),
        case("accepted-path-percent-sub-delims", "clients may encode what need not be",
             target="/v1/secret/db%40prod%3A1/%28a%29%2B%2C%3D%24%26%21%27%2A%3B"),
        case("accepted-path-colon", "the path may hold the separator", target="/v1/secret/a:b:1752000000"),
        case("accepted-path-trailing-slash", "one slash at the end", target=PATH + "/"),
        case("accepted-path-root", "the shortest target", target="/"),
        case("accepted-path-dots-in-segment", "dots beside other characters", target="/v1/..a/.b/c../..."),
        case("accepted-path-4-kib", "4096 bytes", target=longest),
    ]
    bad = {
        "over-4-kib": ("4097 bytes", longest + "a"),
        "no-leading-slash": ("relative", PATH[1:]),
        "asterisk": ("asterisk form", "*"),
        "absolute-form": ("absolute form", "http://gateway.example" + PATH),
        "fragment": ("a fragment", PATH + "#top"),
        "double-slash-at-start": ("an empty segment", "/" + PATH),
        "double-slash": ("an empty segment", "/v1//secret"),
        "double-slash-at-end": ("an empty segment", PATH + "//"),
        "dot-segment": ("/./", "/v1/./secret"),
        "dot-segment-at-end": ("/.", "/v1/secret/."),
        "dot-dot-segment": ("/../", "/v1/../secret"),
        "dot-dot-segment-at-end": ("/..", "/v1/secret/.."),
        "dot-encoded": ("%2E", "/v1/%2E/secret"),
        "dot-dot-encoded": ("%2E%2E", "/v1/%2E%2E/secret"),
        "dot-dot-encoded-lower-case": ("%2e%2e", "/v1/%2e%2e/secret"),
        "dot-dot-half-encoded": (".%2E", "/v1/.%2E/secret"),
        "slash-encoded": ("%2F", "/v1/secret%2Fdb"),
        "slash-encoded-lower-case": ("%2f", "/v1/secret%2fdb"),
        "backslash": ("a raw backslash", "/v1/secret\\db"),
        "backslash-encoded": ("%5C", "/v1/secret%5Cdb"),
        "semicolon": ("a path parameter", "/v1/secret;a=b"),
        "nul": ("a raw NUL", "/v1/secret\0"),
        "nul-encoded": ("%00", "/v1/secret%00"),
        "line-break-encoded": ("%0D%0A", "/v1/secret%0D%0AX-Machine-Identity:root"),
        "question-mark-encoded": ("%3F", "/v1/secret%3Flist=true"),
        "percent-lower-case-hex": ("%c3%a9", "/v1/secret/caf%c3%a9"),
        "percent-unreserved-letter": ("%41 is A, which needs no encoding", "/v1/secret/%41"),
        "percent-unreserved-tilde": ("%7E is ~, which needs no encoding", "/v1/secret/%7Euser"),
        "percent-not-hex": ("%ZZ", "/v1/secret/%ZZ"),
        "percent-cut-short": ("% and one digit at the end", "/v1/secret/a%2"),
        "percent-alone": ("% at the end", "/v1/secret/100%"),
        "utf-8": ("raw UTF-8", "/v1/secret/café"),
        "latin-1": ("a raw byte that is not UTF-8", b"/v1/secret/caf\xe9"),
        "space": ("a raw space", "/v1/secret/a b"),
        "tab": ("a raw tab", "/v1/secret/a\tb"),
        "del": ("a raw DEL", "/v1/secret/a\x7fb"),
        "double-quote": ("a raw quote", '/v1/secret/a"b'),
        "square-bracket": ("a raw bracket", "/v1/secret/a[1]"),
    }
    refused = [case(f"target-{name}", about, "bad_target", target=target) for name, (about, target) in bad.items()]
    # A gateway that mends the target would build the very message that the client signed.
    mended = [
        case("target-fragment-not-signed", "the path alone was signed, the fragment was sent", "bad_target",
             target=PATH + "#top", signed={"path": PATH}),
        case("target-double-slash-signed-single", "//v1/.. was sent, /v1/.. was signed", "bad_target",
             target="/" + PATH, signed={"path": PATH}),
        case("target-dot-dot-signed-resolved", "/v1/x/../secret was sent, /v1/secret was signed", "bad_target",
             target="/v1/x/../secret", signed={"path": "/v1/secret"}),
    ]
    return good + refused + mended


def methods():
    listed = ("HEAD", "PATCH", "LIST", "OPTIONS")
    bad = {
        "lower-case": ("methods are case-exact", "get"),
        "mixed-case": ("methods are case-exact", "Get"),
        "connect": ("never a tunnel", "CONNECT"),
        "trace": ("never an echo", "TRACE"),
        "not-listed": ("in no list", "PURGE"),
        "longer-than-listed": ("a listed method and one letter more", "LISTS"),
    }
    return [case(f"accepted-{name.lower()}", "a listed method", method=name) for name in listed] + [
        case("accepted-method-of-route", "a method that the route adds", method="PURGE", methods=["PURGE"]),
    ] + [case(f"method-{name}", about, "method_not_allowed", method=method) for name, (about, method) in bad.items()]


def queries():
    version = PATH + "?version=2"
    return [
        case("accepted-query-strip", "the path alone is signed, the query is dropped", target=version),
        case("accepted-query-strip-empty", "a ? with nothing after it is dropped too", target=PATH + "?"),
        case("accepted-query-signed", "path?query is signed", target=version, query="signed"),
        case("accepted-query-signed-empty", "an empty query is a query", target=PATH + "?", query="signed"),
        case("accepted-query-signed-absent", "no query on a route that signs them", query="signed"),
        case("accepted-query-signed-opaque", "nothing in a query is normalised, nor held to the rules of the path",
             target=PATH + "?a=//../;%2f%2e&b=?:@/%41&&=", query="signed"),
        case("accepted-query-reject-absent", "no query on a route that refuses them", query="reject"),
        case("query-rejected", "the route refuses a query", "query_not_allowed", target=version, query="reject"),
        case("query-rejected-empty", "an empty query is a query", "query_not_allowed", target=PATH + "?",
             query="reject"),
        case("query-signed-on-strip-route", "path?query was signed where the path alone is", "bad_signature",
             target=version, signed={"path": version}),
        case("query-not-signed", "the path alone was signed where path?query is", "bad_signature", target=version,
             query="signed", signed={"path": PATH}),
        case("query-empty-not-signed", "the ? was not signed", "bad_signature", target=PATH + "?", query="signed",
             signed={"path": PATH}),
        case("query-dropped", "the query was signed and then dropped", "bad_signature", query="signed",
             signed={"path": version}),
        case("query-tampered", "one character changed after signing", "bad_signature", target=PATH + "?version=3",
             query="signed", signed={"path": version}),
        case("query-double-quote", "a raw quote", "bad_target", target=PATH + '?a="b"', query="signed"),
        case("query-utf-8", "raw UTF-8", "bad_target", target=PATH + "?a=é", query="signed"),
    ]


def gzip_stored(data):
    """A gzip member without compression: the same bytes whatever the version of zlib."""
    head = bytes.fromhex("1f8b08000000000000ff")
    block = b"\x01" + len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little") + data
    return head + block + zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
