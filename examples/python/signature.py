"""The signature of a message, for nodes with the option `signingKey`. The rules are in docs/wire-contract.md."""
import base64
import hashlib
import hmac

from headers import unpacked

INFORM = ("x-reliable-signature", "x-reliable-groups", "x-reliable-returned")


def signature(key, kind, properties, body):
    headers = unpacked(properties.headers)
    parts = ["reliable", "1", kind, properties.message_id or "", properties.type or "", properties.app_id or ""]
    for name in sorted(name for name in headers if name.startswith("x-reliable-") and name not in INFORM):
        value = headers[name]
        parts += [name, str(value).lower() if isinstance(value, bool) else str(value)]
    data = b"".join(b"%d:%s," % (len(part), part) for part in [*(part.encode() for part in parts), body])
    return base64.b64encode(hmac.new(key.encode(), data, hashlib.sha256).digest()).decode()


def sign(key, kind, properties, body):
    properties.headers = {**(properties.headers or {}), "x-reliable-signature": signature(key, kind, properties, body)}


def is_signed(key, kind, properties, body):
    given = unpacked(properties.headers).get("x-reliable-signature")
    return isinstance(given, str) and hmac.compare_digest(given, signature(key, kind, properties, body))
