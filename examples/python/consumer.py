#!/usr/bin/python3
"""A reliable consumer in Python: group `invoices` handles `order.created`. The rules are in docs/wire-contract.md.

Environment: AMQP_URL, NAMESPACE (of the Moleculer brokers; may be empty), SIGNING_KEY (theirs, if they have one). SIGTERM ends it cleanly.
Announces its queue, looks whether an operator has paused its group, consumes with manual acks, and for each message: handle, receipt, confirm, ack. One receipt at a time, for
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
from pika.exceptions import AMQPError, ChannelClosedByBroker

from headers import parse, unpacked
from signature import is_signed, sign

GROUP, EVENT = "invoices", "order.created"
PREFIX = ".".join(filter(None, [os.environ.get("NAMESPACE"), "reliable"]))
EXCHANGE, ANNOUNCEMENTS = f"{PREFIX}.events", f"{PREFIX}.announcements"
PARKED, DISPLACED = f"{PREFIX}.parked", f"{PREFIX}.displaced"
# The only two addresses of receipts there are.
RECEIPTS = (f"{PREFIX}.receipts.outbox", f"{PREFIX}.receipts.callback")
QUEUE = f"{PREFIX}.on.{GROUP}/{EVENT}"
# An operator has paused the group, or this event of it, while one of these queues exists. What comes through CONTROL says to look.
MARKERS, CONTROL = (f"{PREFIX}.paused.{GROUP}", f"{PREFIX}.paused.{GROUP}:{EVENT}"), f"{PREFIX}.control"
LOOK_EVERY_S, LISTEN_EVERY_S = 60, 1
SIGNING_KEY = os.environ.get("SIGNING_KEY")
NODE = f"python-{socket.gethostname()}-{os.getpid()}"
# Of what this process has counted: tells it from an earlier one.
START = f"{os.getpid()}-{int(time.time())}"
BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000)
# By minute (ms since 1970): what was handled, for `reliable.history`. Told with an announcement when the minute is over.
counted = {}


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
ANNOUNCEMENT = {"v": 1, "pattern": EVENT, "group": GROUP, "queue": QUEUE, "nodeID": NODE, "service": GROUP}

NEEDED = ("x-reliable-receipt", "x-reliable-producer")
# Headers that are text where they are present; those of OBJECTS have a JSON object in it.
OBJECTS = ("x-reliable-meta", "x-reliable-headers")
TEXTS = (*NEEDED, *OBJECTS, "traceparent", *(f"x-reliable-{name}" for name in ("strategy", "echo", "only", "groups", "request-id", "parent-id", "caller", "node", "replay", "original", "order-key")))


class Invalid(Exception):
    """Trying again cannot help."""


def handle(order, headers):
    """The business. Whatever it raises is a failed attempt; Invalid is the last one."""
    if headers.get("x-reliable-encoded"):
        raise RuntimeError("the payload is encoded, and this consumer has no key")
    if "order" not in order:
        raise Invalid("an order needs a number")
    if order.get("fails", 0) >= headers["x-reliable-attempt"]:
        raise RuntimeError("the printer is out of paper")
    print(f"printing the invoice of order {order['order']}", flush=True)
    time.sleep(order.get("takesMs", 0) / 1000)
    print(f"printed the invoice of order {order['order']}", flush=True)


def handled_as(properties, headers):
    """The id under which duplicates are known. Receipts name the message's own, always."""
    return properties.message_id if headers.get("x-reliable-again") else headers.get("x-reliable-original", properties.message_id)


def send(channel, queue, kind, body):
    """Returns when the broker has it in the queue: persistent, mandatory, confirmed. Raises otherwise."""
    properties = pika.BasicProperties(message_id=str(uuid.uuid4()), type=kind, content_type="application/json", delivery_mode=2, timestamp=int(time.time()))
    data = json.dumps(body).encode()
    if SIGNING_KEY:
        sign(SIGNING_KEY, kind.removeprefix("reliable."), properties, data)
    channel.basic_publish("", queue, data, properties, mandatory=True)


def read(properties, body):
    """
    The headers and the payload; raises ValueError for what is no message of version 1. All is looked at here, before the work is done:
    what failed only in the receipt would be handled, and delivered again, and handled again.
    """
    headers = unpacked(properties.headers)
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
    if not isinstance(headers.get("x-reliable-encoded", False), bool):
        raise ValueError("x-reliable-encoded is neither true nor false")
    if not isinstance(headers.get("x-reliable-again", False), bool):
        raise ValueError("x-reliable-again is neither true nor false")
    if ("x-reliable-turn" in headers) != ("x-reliable-order-key" in headers) or type(headers.get("x-reliable-turn", 1)) is not int or headers.get("x-reliable-turn", 1) < 1:
        raise ValueError("x-reliable-turn is no number, or has no key")
    if headers["x-reliable-receipt"] not in RECEIPTS:
        raise ValueError(f"nobody takes receipts at {headers['x-reliable-receipt']}")
    return headers, parse(body.decode())


def receipt(properties, headers, body, started, error=None):
    item = {"id": properties.message_id, "outcome": "failed" if error else "handled", "attempt": headers["x-reliable-attempt"], "durationMs": round((time.monotonic() - started) * 1000)}
    # The next message of its key is sent at once.
    if "x-reliable-order-key" in headers:
        item["orderKey"] = headers["x-reliable-order-key"]
    if error:
        # "excused" is left out: each failure counts, as there is no breaker here.
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
    if "x-reliable-replay" in headers:
        # Sent again by an operator. Who keeps the ids that were handled looks for this one there.
        print(f"a replay, known as {handled_as(properties, headers)}", flush=True)
    started, error = time.monotonic(), None
    try:
        handle(payload, headers)
    except Exception as raised:
        error = raised
        print(f"failed at attempt {headers['x-reliable-attempt']}: {error}", flush=True)
    send(channel, headers["x-reliable-receipt"], "reliable.receipt", receipt(properties, headers, body, started, error))
    channel.basic_ack(method.delivery_tag)  # only now; if we die before, the message comes again
    count(error is None, (time.monotonic() - started) * 1000)


def count(handled, ms):
    row = counted.setdefault(this_minute(), {"event": EVENT, "group": GROUP, "handled": 0, "failed": 0, "times": [0] * (len(BOUNDS_MS) + 1)})
    row["handled" if handled else "failed"] += 1
    row["times"][sum(ms > bound for bound in BOUNDS_MS)] += 1


def this_minute():
    return int(time.time()) // 60 * 60_000


class Pauses:
    """Listens before it looks for the first time, so that no change is missed."""

    def __init__(self, connection):
        self.connection, self.channel, self.paused = connection, connection.channel(), None
        self.channel.exchange_declare(CONTROL, "direct", durable=True)
        self.queue = f"{CONTROL}.{uuid.uuid4().hex[:15]}"
        self.channel.queue_declare(self.queue, exclusive=True, auto_delete=True, arguments={"x-queue-type": "classic"})
        for key in (GROUP, QUEUE):  # by the second one it is asked whether anybody lives who has the queue
            self.channel.queue_bind(self.queue, CONTROL, key)
        self.listened = self.looked = time.monotonic()
        self.look()

    def now(self):
        told = False
        if time.monotonic() - self.listened > LISTEN_EVERY_S:
            self.listened = time.monotonic()
            while self.channel.basic_get(self.queue, auto_ack=True)[0]:
                told = True  # whoever sent it: looking harms nothing
        if told or time.monotonic() - self.looked > LOOK_EVERY_S:
            self.look()
        return self.paused

    def look(self):
        self.looked = time.monotonic()
        before, self.paused = self.paused, any(self.is_there(marker) for marker in MARKERS)
        if self.paused != before and (self.paused or before is not None):
            print("paused" if self.paused else "resumed", flush=True)

    def is_there(self, queue):
        channel = self.connection.channel()  # of its own: RabbitMQ closes it if there is no such queue
        try:
            channel.queue_declare(queue, passive=True)
            channel.close()
            return True
        except ChannelClosedByBroker as closed:
            if closed.reply_code == 404 and "is down or inaccessible" not in closed.reply_text:
                return False
            raise


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
    pauses = Pauses(connection)
    while not stopping:
        if time.monotonic() - announced > ANNOUNCE_EVERY_S:
            announced = announce(channel)
        for minute in [minute for minute in counted if minute < this_minute()]:
            tell(channel, minute)
        if pauses.now():
            connection.sleep(0.2)
            continue
        # The inactivity timeout lets the loop look at the clock, at `stopping` and at `pauses`.
        minute = this_minute()
        for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.2):
            if method:
                on_message(channel, method, properties, body)
            if stopping or pauses.now() or minute != this_minute() or time.monotonic() - announced > ANNOUNCE_EVERY_S:
                break
        if not stopping and pauses.paused:
            channel.cancel()  # what was not handled goes back into the queue
    for minute in list(counted):  # the one that has begun, too: a process that follows has another START
        tell(channel, minute)


def announce(channel):
    """Before the first delivery: whoever emits from now on knows that this group owes an answer. Again now and then, as a sign of life."""
    send(channel, ANNOUNCEMENTS, "reliable.announcement", ANNOUNCEMENT)
    print(f"consuming {QUEUE}", flush=True)
    return time.monotonic()


def tell(channel, minute):
    """One minute, beside an announcement. It is forgotten only when the broker has it; told twice it is there once."""
    send(channel, ANNOUNCEMENTS, "reliable.announcement", {**ANNOUNCEMENT, "counts": {"minute": minute, "start": START, "rows": [counted[minute]]}})
    del counted[minute]


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
