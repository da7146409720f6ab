"""The headers of a message, each under its own name. The rules are in docs/wire-contract.md."""
import json


def unpacked(headers):
    """Moleculer nodes send theirs as one, `x-reliable`: a JSON object of their names without that prefix. Raises ValueError for what is none."""
    headers = dict(headers or {})
    if "x-reliable" not in headers:
        return headers
    try:
        packed = json.loads(headers.pop("x-reliable"))
    except (TypeError, RecursionError):
        packed = None
    if not isinstance(packed, dict) or not all(isinstance(value, (str, int, float)) for value in packed.values()):
        raise ValueError("x-reliable is no JSON object of texts, numbers and booleans")
    return {**headers, **{f"x-reliable-{name}": value for name, value in packed.items()}}
