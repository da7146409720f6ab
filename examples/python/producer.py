#!/usr/bin/python3
"""A reliable producer in Python, with strategy `callback`. The rules are in docs/wire-contract.md.

    producer.py EVENT JSON [ID]        prints the id when RabbitMQ has the message for good, or ends with an error

Environment: AMQP_URL, NAMESPACE (of the Moleculer brokers; may be empty), CHECK_DELAYS_MS (increasing, comma-separated; a queue each, so one or two digits and zeros),
SIGNING_KEY (of the Moleculer nodes, if they have one).
First a delayed check with a copy of the payload, then the message. If we die in between, or a group does not answer, the check
comes out after its delay, and the callback service (a Moleculer node with a store) sends the message again from that copy: nobody
needs to reach this process ever again. Emit after your data is stored; a crash before the check loses the event, so then call again with the same id.
"""
import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import AMQPError, UnroutableError

from signature import sign

PRODUCER = "billing"
SIGNING_KEY = os.environ.get("SIGNING_KEY")
PREFIX = ".".join(filter(None, [os.environ.get("NAMESPACE"), "reliable"]))
EXCHANGE, CHECKS, RECEIPTS = f"{PREFIX}.events", f"{PREFIX}.checks", f"{PREFIX}.receipts.callback"
PARKED = f"{PREFIX}.parked"
DELAYS_MS = [int(ms) for ms in os.environ.get("CHECK_DELAYS_MS", "30000,60000,120000,300000,600000").split(",")]



def arguments(dead_letters):
    """Queues must be declared with the very arguments that everybody else uses. What the broker takes out goes to another of our queues."""
    dead_letter = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_letters, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return {"x-queue-type": "quorum", "x-delivery-limit": 2147483647, **dead_letter}


def bucket(delay_ms):
    """Where a check waits until its TTL is over; then RabbitMQ moves it to CHECKS, and does not lose it on the way."""
    return f"{CHECKS}.delay.{delay_ms}", {**arguments(CHECKS), "x-message-ttl": delay_ms}


class NotStored(Exception):
    """Nothing was sent."""


class OutcomeUnknown(Exception):
    """The check is, or may be, out: the message will be sent, or end as `dead` before a human. Calling again with the same id is safe."""


class Producer:
    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.channel.exchange_declare(EXCHANGE, "topic", durable=True)
        self.channel.queue_declare(RECEIPTS, durable=True, arguments=arguments(PARKED))
        self.channel.queue_declare(CHECKS, durable=True, arguments=arguments(PARKED))
        self.bucket, ours = bucket(DELAYS_MS[0])
        self.channel.queue_declare(self.bucket, durable=True, arguments=ours)

    def emit(self, event, payload, id=None, meta=None):
        """Returns the id when both check and message are confirmed and routed. Raises NotStored or OutcomeUnknown."""
        id = id or str(uuid.uuid4())
        body = json.dumps(payload, ensure_ascii=False).encode()
        plan = {
            "v": 1,
            "at": int(time.time() * 1000),
            "delays": DELAYS_MS,
            "max": len(DELAYS_MS),
            "backoff": {"initialMs": 1000, "maxMs": 300000, "jitter": "half"},
            "resend": "copy",  # we are no Moleculer service: send it again from the copy in the check
        }
        headers = {
            "x-reliable-version": 1,
            "x-reliable-strategy": "callback",
            "x-reliable-attempt": 1,
            "x-reliable-producer": PRODUCER,
            "x-reliable-receipt": RECEIPTS,
            "x-reliable-echo": json.dumps(plan),
        }
        if meta:
            headers["x-reliable-meta"] = json.dumps(meta)
        try:
            self.publish("", self.bucket, id, event, body, {**headers, "x-reliable-round": 1})
        except UnroutableError as error:
            raise NotStored(f"no queue takes the check of {id}") from error
        except AMQPError as error:
            raise OutcomeUnknown(f"the check of {id}: {error!r}") from error
        try:
            self.publish(EXCHANGE, event, id, event, body, headers)
        except AMQPError as error:
            raise OutcomeUnknown(f"the message {id}: {error!r}") from error
        return id

    def publish(self, exchange, key, id, event, body, headers):
        """Persistent, mandatory; returns when it is confirmed, raises UnroutableError, NackError or what the connection died of."""
        properties = pika.BasicProperties(message_id=id, type=event, content_type="application/json", delivery_mode=2, app_id=PRODUCER, timestamp=int(time.time()), headers=headers)
        if SIGNING_KEY:
            sign(SIGNING_KEY, "check" if "x-reliable-round" in headers else "event", properties, body)
        self.channel.basic_publish(exchange, key, body, properties, mandatory=True)

    def close(self):
        self.connection.close()


def main():
    event, payload = sys.argv[1], json.loads(sys.argv[2])
    producer = Producer(os.environ["AMQP_URL"])
    print(producer.emit(event, payload, *sys.argv[3:4]), flush=True)
    producer.close()


if __name__ == "__main__":
    main()
