"""The headers of a message, each under its own name. The rules are in docs/wire-contract.md."""
import json


def no_json(name):
    raise ValueError(f"{name} is no JSON")


def parse(text):
    """ValueError for what is no JSON (Python takes NaN and Infinity), and for what is nested too deeply for Python."""
    try:
        return json.loads(text, parse_constant=no_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def unpacked(headers):
    """Moleculer nodes send theirs as one, `x-reliable`: a JSON object of their names without that prefix. Raises ValueError for what is none."""
    headers = dict(headers or {})
    if "x-reliable" not in headers:
        return headers
    text = headers.pop("x-reliable")
    packed = parse(text) if isinstance(text, str) else None
    if not isinstance(packed, dict) or not all(isinstance(value, (str, int, float)) for value in packed.values()):
        raise ValueError("x-reliable is no JSON object of texts, numbers and booleans")
    return {**headers, **{f"x-reliable-{name}": value for name, value in packed.items()}}
