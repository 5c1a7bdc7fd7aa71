"""Check a proof that an event is in an audit trail, with nothing but Python's standard library.

    python check_proof.py PROOF.json KEY.pub [KEY.pub …]

PROOF.json is what `audit-logging prove EVENT_ID --out PROOF.json` wrote; KEY.pub is a public key that you have from
somebody you trust, and not from the proof. Exits with 0 when the proof holds, 1 when it does not, 2 on wrong use.

A proof is the event, and every later event of its writer up to the next one that is signed. Each holds the hash of the
one before, so the signature of the last vouches for the first:

    hash       SHA-256(previous ‖ writer ‖ "-" ‖ sequence ‖ canonical document without audit.integrity)
    signature  Ed25519 over the ASCII text "audit-logging seal " ‖ hash
    key id     the first 16 hexadecimal digits of SHA-256 of the 32 public bytes

The arithmetic of Ed25519 is that of RFC 8032, section 5.1. It is slow and not constant in time, which is no matter
for public data.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

FORMAT = "audit-logging proof 1"
P = 2**255 - 19
KEY_BYTES, SIGNATURE_BYTES, KEY_ID_DIGITS = 32, 64, 16
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
PUBLIC_KEY_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in a PEM file (RFC 8410, section 4)."""

MOST_BYTES = 256 << 20
"""Size of the largest proof that is read."""

WRITER, HASH = re.compile(r"[0-9a-f]{20}"), re.compile(r"[0-9a-f]{64}")

Point = tuple[int, int, int, int]


class BadProofError(Exception):
    """The proof does not hold; the message says why."""


def check(proof: Any, keys: dict[str, bytes]) -> dict[str, Any]:
    """Return the event that *proof* proves by one of *keys* (32 public bytes by id); else raise BadProofErrorError."""
    if not isinstance(proof, dict) or proof.get("format") != FORMAT:
        raise BadProofError(f"it is not of the format {FORMAT!r}")
    events = proof.get("events")
    if not isinstance(events, list) or not events:
        raise BadProofError("it holds no events")
    last = check_event(events[0], None)
    for event in events[1:]:
        last = check_event(event, last)
    check_signature(last, keys)
    return dict(events[0])


def check_event(event: Any, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return the seal of *event*, which follows *before* in its chain."""
    try:
        seal: dict[str, Any] = event["audit"]["integrity"]
        writer, sequence, previous = seal["writer"], seal["sequence"], seal["previous"]
        audit = {key: value for key, value in event["audit"].items() if key != "integrity"}
        canonical = json.dumps({**event, "audit": audit}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        text = f"{previous}{writer}-{sequence}{canonical}".encode()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadProofError(f"an event bears no seal ({error})") from None
    if hashlib.sha256(text).hexdigest() != seal.get("hash"):
        raise BadProofError(f"event {writer}-{sequence} is not what was sealed")
    # Without fixed lengths, what ends one part could begin the next.
    formed = WRITER.fullmatch(str(writer)) and HASH.fullmatch(str(previous)) and type(sequence) is int and sequence > 0
    if not formed or not seal.keys() <= {"hash", "key", "previous", "sequence", "signature", "writer"}:
        raise BadProofError("a seal is malformed")
    if before is not None:
        if writer != before["writer"] or sequence != before["sequence"] + 1:
            raise BadProofError(f"event {writer}-{sequence} does not follow {before['writer']}-{before['sequence']}")
        if previous != before["hash"]:
            raise BadProofError(f"event {writer}-{sequence} is not chained to the one before")
    return seal


def check_signature(seal: dict[str, Any], keys: dict[str, bytes]) -> None:
    """Raise BadProofError unless the event with *seal* is signed by one of *keys*."""
    place = f"{seal['writer']}-{seal['sequence']}"
    public = keys.get(str(seal.get("key")))
    if public is None:
        raise BadProofError(f"event {place} is not signed by any of the keys given (but by {seal.get('key')})")
    try:
        signature = bytes.fromhex(seal["signature"])
    except (KeyError, TypeError, ValueError):
        raise BadProofError(f"event {place} bears no signature") from None
    if not verify(public, signature, b"audit-logging seal " + seal["hash"].encode()):
        raise BadProofError(f"the signature of event {place} is not one of the key {seal['key']}")


# -- Ed25519 (RFC 8032): points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x·y = T/Z --


def add(one: Point, two: Point) -> Point:
    """Return the sum of two points."""
    a = (one[1] - one[0]) * (two[1] - two[0]) % P
    b = (one[1] + one[0]) * (two[1] + two[0]) % P
    c = 2 * one[3] * two[3] * D % P
    d = 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(factor: int, point: Point) -> Point:
    """Return *factor* times *point*."""
    result = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = add(result, point)
        point = add(point, point)
        factor >>= 1
    return result


def decode_point(data: bytes) -> Point | None:
    """Return the point that 32 bytes stand for, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether *signature* (64 bytes) is that of *message* by the key *public* (32 bytes)."""
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    key, nonce, factor = decode_point(public), decode_point(signature[:32]), int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or BASE is None or factor >= ORDER:
        return False
    digest = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = multiply(factor, BASE), add(nonce, multiply(digest, key))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


# -- files --


def read_key(path: str) -> tuple[str, bytes]:
    """Return id and the 32 public bytes of a PEM file."""
    lines = [line.strip() for line in Path(path).read_text("ascii").splitlines() if not line.startswith("-----")]
    try:
        der = base64.b64decode("".join(lines))
    except ValueError:
        der = b""
    public = der[len(PUBLIC_KEY_PREFIX) :]
    if not der.startswith(PUBLIC_KEY_PREFIX) or len(public) != KEY_BYTES:
        raise ValueError(f"{path} is no Ed25519 public key")
    return hashlib.sha256(public).hexdigest()[:KEY_ID_DIGITS], public


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, none of whose keys may stand twice: parsers differ in which one counts."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadProofError("a key stands twice in it")
    return result


def no_float(text: str) -> None:
    """Refuse a number that no sealed document holds."""
    raise BadProofError(f"it holds the number {text}")


def read_proof(path: Path) -> str:
    """Return the text of a proof; raise ValueError when it is larger than any proof."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes")
    return content.decode("utf-8")


def main(arguments: list[str]) -> int:
    """Check the proof that the command line names."""
    proof_path, *key_paths = arguments or [""]
    if not key_paths or proof_path.startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        keys = dict(read_key(path) for path in key_paths)
        text = read_proof(Path(proof_path))
    except (OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    try:
        proof = json.loads(text, object_pairs_hook=unique, parse_float=no_float, parse_constant=no_float)
        event = check(proof, keys)
    except (BadProofError, ValueError, RecursionError) as error:
        print(f"The proof does not hold: {error}.")
        return 1
    seal, last = event["audit"]["integrity"], proof["events"][-1]["audit"]["integrity"]
    signed = f"{last['writer']}-{last['sequence']}, signed by the key {last['key']}"
    print(f"The proof holds: event {seal['writer']}-{seal['sequence']} was written not later than {signed}")
    print(f"at {proof['events'][-1]['@timestamp']}. The event:")
    print(json.dumps(event, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
