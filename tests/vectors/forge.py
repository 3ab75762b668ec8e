"""Ed25519 by hand (RFC 8032), for the signatures that no honest library will make.

Slow and not constant time: it only ever touches the published test keys.
"""

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, P) % P)
IDENTITY = (0, 1)
ORDER_2 = (0, P - 1)
ORDER_4 = (pow(2, (P - 1) // 4, P), 0)

# The two non-canonical spellings of the identity (section 5.1.3): y = p + 1, and x = 0 with the sign bit set.
IDENTITY_Y_OVER_P = (P + 1).to_bytes(32, "little")
IDENTITY_WITH_SIGN = (1 | 1 << 255).to_bytes(32, "little")


def add(a, b):
    t = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, P)
    return x % P, y % P


def multiply(scalar, point):
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def secret_scalar(seed):
    low = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return low & ((1 << 254) - 8) | 1 << 254


def public_key(seed):
    return encode(multiply(secret_scalar(seed), BASE))


def dom2(flag, context):
    return b"SigEd25519 no Ed25519 collisions" + bytes([flag, len(context)]) + context


def sign(seed, message, prefix=b"", torsion=IDENTITY):
    """A signature as in section 5.1.6, after `prefix` (dom2), with R moved by a point of small order."""
    r = number(prefix, hashlib.sha512(seed).digest()[32:], message) % L
    return finish(seed, message, encode(add(multiply(r, BASE), torsion)), r, prefix)


def finish(seed, message, encoded_r, r=0, prefix=b""):
    """The S that solves the verification equation for this R."""
    h = number(prefix, encoded_r, public_key(seed), message)
    return encoded_r + ((r + h * secret_scalar(seed)) % L).to_bytes(32, "little")


def over_digest(seed, message):
    """Plain Ed25519 over SHA-512 of the message: what a client does that hashes first."""
    return sign(seed, hashlib.sha512(message).digest())


def prehashed(seed, message):
    """Ed25519ph, empty context."""
    return sign(seed, hashlib.sha512(message).digest(), dom2(1, b""))


def with_context(seed, message, context=b"countersign"):
    """Ed25519ctx."""
    return sign(seed, message, dom2(0, context))


def over_the_order(seed, message):
    """S + L: the same scalar in a second spelling (section 5.1.7, step 1)."""
    honest = sign(seed, message)
    s = int.from_bytes(honest[32:], "little") + L
    return honest[:32] + s.to_bytes(32, "little")


def self_test():
    """RFC 8032, sections 7.1, 7.2 and 7.3; raises when this file is wrong."""
    pure = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert sign(pure, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    context = bytes.fromhex("0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6")
    assert with_context(context, bytes.fromhex("f726936d19c800494e3fdaff20b276a8"), b"foo").hex() == (
        "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a"
        "8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d"
    )
    hashed = bytes.fromhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
    assert prehashed(hashed, b"abc").hex() == (
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
    )
