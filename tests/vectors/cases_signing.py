"""Cases about the four headers, the message, the machine and the signature.

Unless a case is about the signature itself, it is good over exactly what was sent: only a gateway that overlooks the
defect can let the request in.
"""

import base64

import forge
from signer import MACHINE, NOW, PATH, SIGNING_HEADERS, body_hash, case, machine

JSON = b'{"projectId":"proj_1"}'
UNEVEN = {"past": 300, "future": 60}  # tells the two ends of the window apart
OTHER_MACHINE = "prod-web-2"
BOTH_MACHINES = [machine(), machine(OTHER_MACHINE, keys=["bob"])]


def signing_cases():
    groups = (headers, timestamps, nonces, machine_ids, signature_texts, tampered, client_mistakes, keys_and_machines,
              forgeries)
    return [one for group in groups for one in group()]


def headers():
    cases = [
        case("accepted-header-names-lower-case", "names of headers have no case",
             rename={name: name.lower() for name in SIGNING_HEADERS}),
        case("header-x-signature-with-underscores", "X_Signature is another header", "missing_header",
             rename={"X-Signature": "X_Signature"}),
    ]
    for name in SIGNING_HEADERS:
        slug = f"header-{name.lower()}"
        cases += [
            case(f"{slug}-missing", "not sent", "missing_header", send={name: lambda _: []}),
            case(f"{slug}-empty", "sent without a value", "malformed_header", send={name: constant("")}),
            case(f"{slug}-twice", "sent twice, with equal values", "malformed_header",
                 send={name: lambda value: [value, value]}),
            case(f"{slug}-comma-joined", "two equal values in one line", "malformed_header",
                 send={name: lambda value: [f"{value}, {value}"]}),
        ]
    return cases


def timestamps():
    def digits(zero):
        return "".join(chr(ord(zero) + int(digit)) for digit in str(NOW))

    malformed = {
        "plus-sign": ("+", f"+{NOW}"),
        "minus-sign": ("-", f"-{NOW}"),
        "leading-zero": ("11 digits, the first of them 0", f"0{NOW}"),
        "space-inside": ("a space between digits", "17520 00000"),
        "milliseconds": ("13 digits", NOW * 1000),
        "twelve-digits": ("one digit too many", NOW * 100),
        "nine-digits": ("one digit too few", NOW // 10),
        "overflow-to-now": ("2^64 + now, which is now where 64 bits wrap", 2**64 + NOW),
        "forty-digits": ("no integer type holds it", "9" * 40),
        "fraction": ("a decimal point", f"{NOW}.0"),
        "exponent": ("scientific notation", "1.752e9"),
        "hexadecimal": ("0x", hex(NOW)),
        "underscores": ("as some languages write numbers", f"{NOW:_}"),
        "arabic-indic-digits": ("digits, but not ASCII", digits("\u0660")),
        "full-width-digits": ("digits, but not ASCII", digits("\uff10")),
        "rfc-3339": ("a date", "2025-07-08T18:40:00Z"),
    }
    return [
        case("accepted-timestamp-oldest", "the bounds are inclusive", timestamp=NOW - 300, window=UNEVEN),
        case("accepted-timestamp-newest", "the bounds are inclusive", timestamp=NOW + 60, window=UNEVEN),
        case("timestamp-one-second-too-old", "past + 1", "clock_skew", timestamp=NOW - 301, window=UNEVEN),
        case("timestamp-one-second-too-new", "future + 1", "clock_skew", timestamp=NOW + 61, window=UNEVEN),
        case("timestamp-smallest", "10 digits: well formed, in 2001", "clock_skew", timestamp=10**9),
        case("timestamp-eleven-digits", "well formed, in 2286", "clock_skew", timestamp=10**10),
    ] + [
        case(f"timestamp-{name}", about, "malformed_header", timestamp=timestamp)
        for name, (about, timestamp) in malformed.items()
    ]


def nonces():
    good = {
        "hex-32": ("as the MCP client sends it", "00112233445566778899aabbccddeeff"),
        "16-characters": ("the shortest", "abcdefghijklmnop"),
        "128-characters": ("the longest", "N" * 128),
        "every-class": ("standard and url-safe base64 at once", "AZaz09+/=_-AZaz09"),
    }
    malformed = {
        "15-characters": ("one too few", "abcdefghijklmno"),
        "129-characters": ("one too many", "N" * 129),
        "colon": ("the separator", "abcdefgh:ijklmnopqrst"),
        "space": ("a space inside", "abcdefgh ijklmnopqrst"),
        "dot": ("outside the alphabet", "abcdefgh.ijklmnopqrst"),
        "percent": ("outside the alphabet", "abcdefgh%2Fijklmnopqrst"),
        "not-ascii": ("a letter, but not ASCII", "abcdefghéijklmnopqrst"),
    }
    return [case(f"accepted-nonce-{name}", about, nonce=nonce) for name, (about, nonce) in good.items()] + [
        case(f"nonce-{name}", about, "malformed_header", nonce=nonce) for name, (about, nonce) in malformed.items()
    ]


def machine_ids():
    good = {
        "one-character": ("the shortest", "7"),
        "128-characters": ("the longest", "m" * 128),
        "every-class": ("letters, digits, dot, underscore, hyphen", "Prod_API-7.eu"),
    }
    malformed = {
        "129-characters": ("one too many", "m" * 129),
        "space": ("a space inside", "prod api"),
        "slash": ("outside the alphabet", "prod/api"),
        "colon": ("outside the alphabet", "prod:api"),
        "homoglyph": ("a Cyrillic a", "prod-аpi"),
        "no-break-space": ("one byte that is not ASCII", b"prod\xa0api"),
    }
    return [
        case(f"accepted-machine-id-{name}", about, machine_id=machine_id, machines=[machine(machine_id)])
        for name, (about, machine_id) in good.items()
    ] + [
        case(f"machine-id-{name}", about, "malformed_header", machine_id=machine_id)
        for name, (about, machine_id) in malformed.items()
    ] + [
        case("machine-id-upper-case", "ids are case-exact: an unknown machine", "bad_signature",
             machine_id=MACHINE.upper()),
        case("machine-id-cut-short", "a registered id without its last character", "bad_signature",
             machine_id=MACHINE[:-1]),
    ]


def signature_texts():
    def trailing_bits(value):
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        return value[:-3] + alphabet[alphabet.index(value[-3]) | 1] + "=="

    def resized(change):
        return lambda value: base64.b64encode(change(base64.b64decode(value))).decode()

    def inserted(text):
        return lambda value: value[:44] + text + value[44:]

    spellings = {
        "trailing-bits": ("one of the four unused bits is set", trailing_bits),
        "url-safe-alphabet": ("- and _ for + and /", lambda value: value.replace("+", "-").replace("/", "_")),
        "no-padding": ("without ==", lambda value: value.rstrip("=")),
        "half-padding": ("one =", lambda value: value[:-1]),
        "more-padding": ("four =", lambda value: value + "=="),
        "space-inside": ("a space in the middle", inserted(" ")),
        "tab-inside": ("a tab in the middle", inserted("\t")),
        "trailing-garbage": ("one character after the padding", lambda value: value + "A"),
        "outside-the-alphabet": ("a * in the middle, which some decoders skip", inserted("*")),
        "not-ascii": ("a letter in the middle that is not ASCII", inserted("é")),
        "63-bytes": ("the last byte is missing", resized(lambda data: data[:-1])),
        "65-bytes": ("one byte more", resized(lambda data: data + b"\0")),
        "128-bytes": ("the signature twice over", resized(lambda data: data + data)),
        "hexadecimal": ("hex", lambda value: base64.b64decode(value).hex()),
        "quoted": ("in quotes", lambda value: f'"{value}"'),
    }
    return [
        case(f"signature-text-{name}", about, "malformed_header", send={"X-Signature": respelled(spell)})
        for name, (about, spell) in spellings.items()
    ]


def tampered():
    """Sent differently from what was signed, by as little as can be."""
    changed = {
        "method": ("GET was signed, HEAD was sent", {"method": "HEAD"}, {"method": "GET"}),
        "path-character": ("one character", {"target": PATH}, {"path": PATH[:-1] + "e"}),
        "path-letter-case": ("the case of one letter", {"target": PATH}, {"path": PATH[:-1] + "D"}),
        "path-trailing-slash": ("a slash more was sent", {"target": PATH + "/"}, {"path": PATH}),
        "path-prefix": ("a prefix was sent but not signed", {"target": "/api" + PATH}, {"path": PATH}),
        "path-resolved": ("/v1/x/../secret was signed, /v1/secret was sent", {"target": "/v1/secret"},
                          {"path": "/v1/x/../secret"}),
        "path-percent-encoded": ("%40 was sent, @ was signed", {"target": "/v1/db%40prod"}, {"path": "/v1/db@prod"}),
        "path-decoded": ("/%C3%A9 was sent, its text was signed", {"target": "/v1/%C3%A9"}, {"path": "/v1/é"}),
        "timestamp": ("one second", {"timestamp": NOW}, {"timestamp": str(NOW - 1)}),
        "nonce": ("one character", {"nonce": "abcdefghijklmnop"}, {"nonce": "abcdefghijklmnoq"}),
        "nonce-padding": ("nonces are compared as text", {"nonce": "YWJjZGVmZ2hpamtsbQ"},
                          {"nonce": "YWJjZGVmZ2hpamtsbQ=="}),
        "body-bit": ("one bit", {"method": "POST", "body": JSON}, {"body": flip(JSON, 0)}),
        "body-newline": ("a newline more was sent", {"method": "POST", "body": JSON + b"\n"}, {"body": JSON}),
        "body-removed": ("the body was removed", {"method": "POST"}, {"body": JSON}),
        "body-added": ("a body was added to a GET", {"body": JSON}, {"body": b""}),
        "body-chunked": ("one bit, in chunks", {"method": "POST", "body": JSON, "framing": [16, 6]},
                         {"body": flip(JSON, 100)}),
    }
    return [
        case(f"tampered-{name}", about, "bad_signature", **sent, signed=signed)
        for name, (about, sent, signed) in changed.items()
    ]


def client_mistakes():
    """What a new client is likely to get wrong in the message."""
    empty = body_hash(b"")
    wrong = {
        "newline-at-end": ("the message ends without a newline", {"suffix": "\n"}),
        "body-hash-upper-case": ("the hash is lower-case hex", {"body_hash": empty.upper()}),
        "body-hash-base64": ("the hash is hex", {"body_hash": base64.b64encode(bytes.fromhex(empty)).decode()}),
        "body-hash-empty": ("no body has the hash of nothing", {"body_hash": ""}),
        "whole-url": ("the path has no scheme and no host", {"path": "http://gateway.example" + PATH}),
        "method-lower-case": ("the method is signed as sent", {"method": "get"}),
        "timestamp-in-milliseconds": ("the timestamp is signed as sent", {"timestamp": str(NOW * 1000)}),
    }
    return [
        case(f"client-{name}", about, "bad_signature", signed=signed) for name, (about, signed) in wrong.items()
    ]


def keys_and_machines():
    def disabled(**signer):
        return {"machines": [machine(enabled=False)], **signer}

    return [
        case("accepted-second-key", "a machine may have several keys", key="alice-next",
             machines=[machine(keys=["alice", "alice-next"])]),
        case("accepted-not-before-passed", "valid since an hour", machines=[machine(not_before=NOW - 3600)]),
        case("accepted-expires-later", "valid for another hour", machines=[machine(expires=NOW + 3600)]),
        case("key-wrong", "a key that is nobody's", "bad_signature", key="mallory"),
        case("key-of-another-machine", "signed by one machine, sent as another", "bad_signature",
             machine_id=OTHER_MACHINE, machines=BOTH_MACHINES),
        case("machine-unknown", "not in the registry", "bad_signature", machine_id="nobody", key="mallory"),
        case("machine-unknown-registered-key", "another machine's key does not make an id known", "bad_signature",
             machine_id="nobody"),
        case("machine-registry-empty", "no machine at all", "bad_signature", machines=[]),
        case("machine-disabled", "the signature is good", "machine_disabled", **disabled()),
        case("machine-disabled-wrong-key", "without a good signature nothing tells that it exists", "bad_signature",
             **disabled(key="mallory")),
        case("machine-expired", "since an hour", "machine_expired", machines=[machine(expires=NOW - 3600)]),
        case("machine-expired-wrong-key", "without a good signature nothing tells that it exists", "bad_signature",
             key="mallory", machines=[machine(expires=NOW - 3600)]),
        case("machine-not-yet-valid", "for another hour", "machine_expired", machines=[machine(not_before=NOW + 3600)]),
    ]


def forgeries():
    """Signatures that are not plain, canonical Ed25519 of the message, or hardly. RFC 8032, section 5.1."""
    def bits(bit):
        return lambda seed, message: flip(forge.sign(seed, message), bit)

    def instead_of_r(encoded):
        return lambda seed, message: forge.finish(seed, message, encoded)

    def honest_r_with(s):
        return lambda seed, message: forge.sign(seed, message)[:32] + s

    def swapped(seed, message):
        honest = forge.sign(seed, message)
        return honest[32:] + honest[:32]

    order = forge.L.to_bytes(32, "little")
    forged = {
        "bit-flipped-in-r": ("the first bit", bits(0)),
        "bit-flipped-in-s": ("the lowest bit of S", bits(256)),
        "s-plus-order": ("S + L: the same scalar, not canonical", forge.over_the_order),
        "s-is-order": ("S = L", honest_r_with(order)),
        "s-all-ones": ("S = 2^256 - 1", honest_r_with(b"\xff" * 32)),
        "r-and-s-swapped": ("S before R", swapped),
        "all-zero": ("64 zero bytes: R is of order 4, S = 0", lambda *_: bytes(64)),
        "identity": ("R is the identity, S = 0", lambda *_: forge.encode(forge.IDENTITY) + bytes(32)),
        "small-order-r-solved": ("R is the identity and S solves the equation: only a strict verifier refuses it",
                                 instead_of_r(forge.encode(forge.IDENTITY))),
        "small-order-r-cofactored": ("R is of order 4 and S solves the equation times 8",
                                     instead_of_r(forge.encode(forge.ORDER_4))),
        "mixed-order-r": ("R is moved by the point of order 2: the equation holds times 8",
                          lambda seed, message: forge.sign(seed, message, torsion=forge.ORDER_2)),
        "r-not-canonical-y": ("the identity with y = p + 1", instead_of_r(forge.IDENTITY_Y_OVER_P)),
        "r-not-canonical-sign": ("the identity with a sign bit", instead_of_r(forge.IDENTITY_WITH_SIGN)),
        "of-hashed-message": ("plain Ed25519 over the SHA-512 of the message", forge.over_digest),
        "ed25519ph": ("prehashed Ed25519", forge.prehashed),
        "ed25519ctx": ("Ed25519 with a context", forge.with_context),
    }
    return [
        case(f"signature-{name}", about, "bad_signature", forge=make) for name, (about, make) in forged.items()
    ]


def constant(value):
    return lambda _: [value]


def respelled(spell):
    return lambda value: [spell(value)]


def flip(data, bit):
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
