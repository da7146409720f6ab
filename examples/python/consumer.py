#!/usr/bin/python3
"""A reliable consumer in Python: group `invoices` handles `order.created`. The rules are in docs/wire-contract.md.

Environment: AMQP_URL, NAMESPACE (of the Moleculer brokers; may be empty), SIGNING_KEY (theirs, if they have one). SIGTERM ends it cleanly.
Announces its queue, consumes with manual acks, and for each message: handle, receipt, confirm, ack. One receipt at a time, for
legibility; a receipt message may hold many items, which is faster. A message may come twice: make `handle` idempotent.
"""
import base64
import json
import os
import signal
import socket
import time
import uuid

import pika
from pika.exceptions import AMQPError

from signature import is_signed, sign

GROUP, EVENT = "invoices", "order.created"
PREFIX = ".".join(filter(None, [os.environ.get("NAMESPACE"), "reliable"]))
EXCHANGE, ANNOUNCEMENTS = f"{PREFIX}.events", f"{PREFIX}.announcements"
PARKED, DISPLACED = f"{PREFIX}.parked", f"{PREFIX}.displaced"
# The only two addresses of receipts there are.
RECEIPTS = (f"{PREFIX}.receipts.outbox", f"{PREFIX}.receipts.callback")
QUEUE = f"{PREFIX}.on.{GROUP}/{EVENT}"
SIGNING_KEY = os.environ.get("SIGNING_KEY")
NODE = f"python-{socket.gethostname()}-{os.getpid()}"


def arguments(limit, dead_letters=PARKED):
    """Queues must be declared with the very arguments that everybody else uses. What the broker takes out goes to another of our queues."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": limit,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letters,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


UNLIMITED = 2147483647
SYSTEM = {name: arguments(UNLIMITED) for name in (DISPLACED, ANNOUNCEMENTS, *RECEIPTS)} | {PARKED: arguments(UNLIMITED, DISPLACED)}
# What kills its consumers 20 times, or is rejected, goes to the parked messages instead of nowhere.
OURS = arguments(20)
ANNOUNCE_EVERY_S = 600

NEEDED = ("x-reliable-receipt", "x-reliable-producer")
# Headers that are text where they are present; those of OBJECTS have a JSON object in it.
OBJECTS = ("x-reliable-meta", "x-reliable-headers")
TEXTS = (*NEEDED, *OBJECTS, "traceparent", *(f"x-reliable-{name}" for name in ("strategy", "echo", "only", "groups", "request-id", "parent-id", "caller", "node")))


class Invalid(Exception):
    """Trying again cannot help."""


def handle(order, headers):
    """The business. Whatever it raises is a failed attempt; Invalid is the last one."""
    if "order" not in order:
        raise Invalid("an order needs a number")
    if order.get("fails", 0) >= headers["x-reliable-attempt"]:
        raise RuntimeError("the printer is out of paper")
    print(f"printing the invoice of order {order['order']}", flush=True)
    time.sleep(order.get("takesMs", 0) / 1000)
    print(f"printed the invoice of order {order['order']}", flush=True)


def send(channel, queue, kind, body):
    """Returns when the broker has it in the queue: persistent, mandatory, confirmed. Raises otherwise."""
    properties = pika.BasicProperties(message_id=str(uuid.uuid4()), type=kind, content_type="application/json", delivery_mode=2, timestamp=int(time.time()))
    data = json.dumps(body).encode()
    if SIGNING_KEY:
        sign(SIGNING_KEY, kind.removeprefix("reliable."), properties, data)
    channel.basic_publish("", queue, data, properties, mandatory=True)


def no_json(name):
    raise ValueError(f"{name} is no JSON")


def parse(text):
    """ValueError for what is no JSON (Python takes NaN and Infinity), and for what is nested too deeply for Python."""
    try:
        return json.loads(text, parse_constant=no_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read(properties, body):
    """
    The headers and the payload; raises ValueError for what is no message of version 1. All is looked at here, before the work is done:
    what failed only in the receipt would be handled, and delivered again, and handled again.
    """
    headers = properties.headers or {}
    if SIGNING_KEY and not is_signed(SIGNING_KEY, "event", properties, body):
        raise ValueError("not signed with our key")
    # A bool is an int to Python.
    if type(headers.get("x-reliable-version")) is not int or headers["x-reliable-version"] != 1:
        raise ValueError("no message of version 1")
    if not all(isinstance(text, str) and text for text in (properties.message_id, properties.type)):
        raise ValueError("no message id or event name")
    if type(headers.get("x-reliable-attempt")) is not int or headers["x-reliable-attempt"] < 1:
        raise ValueError("no attempt")
    for name in TEXTS:
        if (name in headers or name in NEEDED) and not (isinstance(headers.get(name), str) and headers[name]):
            raise ValueError(f"{name} is no text")
        if name in OBJECTS and name in headers and not isinstance(parse(headers[name]), dict):
            raise ValueError(f"{name} is no JSON object")
    if not isinstance(headers.get("x-reliable-level", 0), (int, float)) or not isinstance(headers.get("x-reliable-tracing", True), bool):
        raise ValueError("x-reliable-level is no number, or x-reliable-tracing neither true nor false")
    if headers["x-reliable-receipt"] not in RECEIPTS:
        raise ValueError(f"nobody takes receipts at {headers['x-reliable-receipt']}")
    return headers, parse(body.decode())


def receipt(properties, headers, body, started, error=None):
    item = {"id": properties.message_id, "outcome": "failed" if error else "handled", "attempt": headers["x-reliable-attempt"], "durationMs": round((time.monotonic() - started) * 1000)}
    if error:
        item.update(retryable=not isinstance(error, Invalid), error={"name": type(error).__name__, "message": str(error)})
    if "x-reliable-echo" in headers:
        item["echo"] = {"event": properties.type, "producer": headers["x-reliable-producer"], "plan": headers["x-reliable-echo"]}
        if error:  # brings the message back, so that it can be sent again
            # AMQP also knows bytes and dates, which JSON does not; none of ours is one.
            ours = {name: value for name, value in headers.items() if (name.startswith("x-reliable-") or name == "traceparent") and isinstance(value, (str, int))}
            item["echo"].update(headers=ours, body=base64.b64encode(body).decode())
    return {"v": 1, "group": GROUP, "nodeID": NODE, "items": [item]}


def on_message(channel, method, properties, body):
    try:
        headers, payload = read(properties, body)
    except ValueError as error:
        print(f"rejected: {error}", flush=True)
        return channel.basic_reject(method.delivery_tag, requeue=False)  # RabbitMQ parks it
    only = headers.get("x-reliable-only")
    if only and GROUP not in only.split(","):
        return channel.basic_ack(method.delivery_tag)  # not for us: no receipt
    started, error = time.monotonic(), None
    try:
        handle(payload, headers)
    except Exception as raised:
        error = raised
        print(f"failed at attempt {headers['x-reliable-attempt']}: {error}", flush=True)
    send(channel, headers["x-reliable-receipt"], "reliable.receipt", receipt(properties, headers, body, started, error))
    channel.basic_ack(method.delivery_tag)  # only now; if we die before, the message comes again


def consume(connection, stopping):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    for name, ours in SYSTEM.items():
        channel.queue_declare(name, durable=True, arguments=ours)
    channel.queue_declare(QUEUE, durable=True, arguments=OURS)
    channel.queue_bind(QUEUE, EXCHANGE, EVENT)
    channel.basic_qos(prefetch_count=10)  # without it RabbitMQ sends all it has
    announced = announce(channel)
    # The inactivity timeout lets the loop look at the clock and at `stopping`.
    for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.2):
        if method:
            on_message(channel, method, properties, body)
        if stopping:
            return
        if time.monotonic() - announced > ANNOUNCE_EVERY_S:
            announced = announce(channel)


def announce(channel):
    """Before the first delivery: whoever emits from now on knows that this group owes an answer. Again now and then, as a sign of life."""
    send(channel, ANNOUNCEMENTS, "reliable.announcement", {"v": 1, "pattern": EVENT, "group": GROUP, "queue": QUEUE, "nodeID": NODE, "service": GROUP})
    print(f"consuming {QUEUE}", flush=True)
    return time.monotonic()


def main():
    stopping = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.append(True))
    while not stopping:
        try:
            # A handler that runs for longer than the heartbeat (seconds) would lose the connection: then use a thread for it.
            parameters = pika.URLParameters(os.environ["AMQP_URL"])
            parameters.heartbeat = 60
            connection = pika.BlockingConnection(parameters)
            consume(connection, stopping)
            connection.close()  # what was not acked goes back into the queue
        except AMQPError as error:
            # Nothing was acked that was not answered. Connect again, declare again, announce again.
            print(f"lost RabbitMQ ({type(error).__name__}), again in a second", flush=True)
            time.sleep(1)
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
