import { EVENTS, GROUPS, LIVING, type Places, queuesOf } from "./load";
import type { Random } from "./random";
import type { Forged } from "./stranger";

/** Changes the message in place. */
type Mutation = (forged: Forged, random: Random) => void;

const MIB = 1024 * 1024;
/** RabbitMQ's own limit for a message. */
const HUGEST_BYTES = 16 * MIB;
/** A huge one among so many. */
const HUGE_ONCE_IN = 400;

const TEXTS = [
  "",
  " ",
  "*",
  "**",
  "#",
  "a:b",
  "a/b,c",
  "$node.list",
  "__proto__",
  "constructor",
  "\u0000",
  "a\u001b[2Jb\r\nINFO forged",
  "\u2028\u202e\ufeff",
  "\ud800",
  "é".repeat(127),
  "x".repeat(255),
  "x".repeat(3000),
  "9007199254740993",
  "null",
  "1e999",
  "../../etc",
  "reliable.receipt",
  "reliable.withdrawal",
  "reliable.parked"
];

const hostile = (random: Random): unknown =>
  random.pick<unknown>([
    null,
    true,
    0,
    -1,
    1.5,
    -0,
    2 ** 31,
    2 ** 53,
    1e15,
    1e308,
    [],
    {},
    [[[]]],
    { $gt: "" },
    { "a.b": { $where: "1" } },
    JSON.parse('{"__proto__":{"x-reliable-version":1,"polluted":true}}'),
    Array.from({ length: 300 }, (_, i) => i),
    random.pick(GROUPS).name,
    random.pick(EVENTS),
    random.pick(TEXTS),
    random.pick(TEXTS)
  ]);

/** Every type that a field of AMQP's tables may have. */
const amqpValue = (random: Random): unknown =>
  random.pick<unknown>([
    true,
    false,
    random.pick(TEXTS),
    random.int(-(2 ** 31), 2 ** 31 - 1),
    2 ** 53,
    1.5,
    { "!": "byte", value: -1 },
    { "!": "short", value: 7 },
    { "!": "long", value: 1 },
    { "!": "float", value: 0.5 },
    { "!": "double", value: 1 },
    { "!": "timestamp", value: 1_795_360_946 },
    { "!": "decimal", value: { digits: 15, places: 1 } },
    Buffer.from([0, 255, 10]),
    null,
    [],
    [1, "a", [true, { b: null }]],
    {},
    { "": 1, "a.b": { $set: 1 }, "\u0000": 2 },
    { "x-reliable-version": 1 },
    nested(random.pick([5, 120, 1000]))
  ]);

/** Tables in tables. */
function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value };
  return value;
}

/** JSON in JSON, deeper than a recursion goes. */
const deep = (random: Random): string => {
  const depth = random.pick([100, 3000, 20_000, 200_000]);
  return random.once(2)
    ? "[".repeat(depth) + "]".repeat(depth)
    : '{"a":'.repeat(depth) + random.pick(["1", "{}"]) + "}".repeat(depth);
};

/** The places in a parsed JSON where a value stands, some levels deep: their owners and keys. */
function placesIn(value: unknown, levels = 20): [owner: Record<string, unknown>, key: string][] {
  if (typeof value !== "object" || value === null || !levels) return [];
  const owner = value as Record<string, unknown>;
  return Object.keys(owner).flatMap(key => [
    [owner, key] as [Record<string, unknown>, string],
    ...placesIn(owner[key], levels - 1)
  ]);
}

/** One field removed, doubled, typed wrongly, or added, anywhere in it. */
function changeField(value: unknown, random: Random): string {
  const places = placesIn(value);
  if (!places.length) return JSON.stringify(hostile(random));
  const [owner, key] = random.pick(places);
  switch (random.int(1, 5)) {
    case 1:
      if (Array.isArray(owner)) owner.splice(Number(key), 1);
      else delete owner[key];
      break;
    case 2:
      if (Array.isArray(owner)) owner.push(...owner, ...owner);
      else owner[random.pick(TEXTS)] = owner[key];
      break;
    case 3:
      // As text: a key of this name would be a prototype here.
      return JSON.stringify(value).replace("{", '{"__proto__":{"admin":true},"constructor":{"prototype":{"a":1}},');
    default:
      owner[key] = hostile(random);
  }
  return JSON.stringify(value);
}

/** Text that is no JSON, or too deep for it, stays. */
function mutatedJson(text: string, random: Random): string {
  try {
    return changeField(JSON.parse(text), random);
  } catch {
    return text;
  }
}

const flip: Mutation = (forged, random) => {
  const body = Buffer.from(forged.body);
  if (body.length) for (let i = random.int(1, 8); i > 0; i--) body[random.int(0, body.length - 1)] = random.int(0, 255);
  forged.body = body;
};

const truncate: Mutation = (forged, random) => {
  forged.body = forged.body.subarray(0, random.int(0, Math.max(0, forged.body.length - 1)));
};

const control: Mutation = (forged, random) => {
  const at = random.int(0, forged.body.length);
  const more = Buffer.from(random.pick(TEXTS));
  forged.body = Buffer.concat([forged.body.subarray(0, at), more, forged.body.subarray(at)]);
};

const bodyField: Mutation = (forged, random) => {
  forged.body = Buffer.from(mutatedJson(forged.body.toString(), random));
};

const header = ({ headers }: Forged, random: Random) => random.pick(["x-reliable-none", ...Object.keys(headers)]);

const headerGone: Mutation = (forged, random) => void delete forged.headers[header(forged, random)];

const headerTyped: Mutation = (forged, random) => {
  forged.headers[header(forged, random)] = amqpValue(random);
};

const headerField: Mutation = (forged, random) => {
  const names = Object.keys(forged.headers).filter(name => String(forged.headers[name]).startsWith("{"));
  const name = random.pick(names.length ? names : ["x-reliable-meta"]);
  forged.headers[name] = mutatedJson(String(forged.headers[name] ?? '{"a":1}'), random);
};

const headerDeep: Mutation = (forged, random) => {
  const name = random.pick(["x-reliable-meta", "x-reliable-headers", "x-reliable-echo"]);
  forged.headers[name] = deep(random).slice(0, 60_000);
};

const headerPacked: Mutation = (forged, random) => {
  const whole = JSON.stringify({ version: 1, attempt: 1, receipt: "nowhere", producer: "shop", only: "shop" });
  forged.headers["x-reliable"] = random.pick<unknown>([mutatedJson(whole, random), deep(random), amqpValue(random)]);
};

const headersMany: Mutation = (forged, random) => {
  const length = random.pick([10, 100, 1000]);
  for (let i = random.int(1, 80); i > 0; i--) forged.headers[`x-more-${i}`] = "y".repeat(length);
};

const prototype: Mutation = (forged, random) => {
  const name = random.pick(["__proto__", "constructor", "hasOwnProperty", "toString"]);
  const value = random.pick<unknown>([{ "x-reliable-version": 1 }, "x", { "!": "long", value: 1 }]);
  Object.defineProperty(forged.headers, name, { value, enumerable: true, configurable: true, writable: true });
};

const counts: Mutation = (forged, random) => {
  const name = random.pick(["x-reliable-attempt", "x-reliable-round", "x-reliable-version", "x-reliable-level"]);
  forged.headers[name] = random.pick<unknown>([0, -1, 1.5, 2 ** 31, 2 ** 53, "1", { "!": "double", value: 1e300 }]);
};

const names: Mutation = (forged, random) => {
  const name = random.pick(["x-reliable-only", "x-reliable-groups", "x-reliable-producer", "x-reliable-receipt"]);
  forged.headers[name] = random.pick([...GROUPS.map(group => group.name), ...TEXTS, "shop,till", "a,".repeat(2000)]);
};

const property: Mutation = ({ properties }, random) => {
  const name = random.pick(["messageId", "type", "type", "contentType", "appId", "timestamp", "correlationId"]);
  if (random.once(3)) delete properties[name];
  else if (name === "timestamp") properties[name] = random.pick([0, 2 ** 31, 2 ** 52]);
  // A short string: more than 255 bytes cannot be written.
  else properties[name] = random.pick(TEXTS.filter(text => Buffer.byteLength(text) <= 255));
};

/** What makes RabbitMQ itself do something. */
const broker: Mutation = ({ properties, headers }, random) => {
  const more = random.pick<Record<string, unknown>>([
    { expiration: "1" },
    { expiration: "1500" },
    { deliveryMode: 1 },
    { priority: 255 },
    { contentEncoding: "gzip" },
    { replyTo: "amq.rabbitmq.reply-to.x" }
  ]);
  Object.assign(properties, more);
  if (random.once(3)) headers["CC"] = ["jobs.mail", "nowhere"];
};

const bodyDeep: Mutation = (forged, random) => {
  forged.body = Buffer.from(deep(random));
};

const MUTATIONS: readonly Mutation[] = [
  flip,
  truncate,
  control,
  bodyField,
  bodyField,
  bodyField,
  headerGone,
  headerTyped,
  headerTyped,
  headerField,
  headerField,
  headerDeep,
  headerPacked,
  headersMany,
  prototype,
  counts,
  names,
  property,
  broker,
  bodyDeep
];

/** White space keeps a JSON readable, a long string makes it one; anything else is neither. */
const huge: Mutation = (forged, random) => {
  const size = random.pick([MIB, 2 * MIB, 4 * MIB, HUGEST_BYTES]);
  const rest = Math.max(0, size - forged.body.length - 2);
  forged.body = random.pick([
    () => Buffer.concat([forged.body, Buffer.alloc(rest, " ")]),
    () => Buffer.from(`"${"z".repeat(rest)}"`),
    () => Buffer.alloc(size, 0xff)
  ])();
};

export function mutate(forged: Forged, random: Random, places: Places): void {
  for (let i = random.pick([0, 1, 1, 1, 2, 3, 5]); i > 0; i--) {
    const mutation = random.pick(MUTATIONS);
    mutation(forged, random);
    forged.done.push(mutation.name);
  }
  if (random.once(5)) {
    forged.exchange = "";
    forged.routingKey = random.pick(queuesOf(places));
    forged.done.push(`to ${forged.routingKey}`);
  }
  if (random.once(HUGE_ONCE_IN)) {
    huge(forged, random);
    forged.done.push("huge");
  }
  if (forged.exchange === "" && !forged.routingKey) forged.routingKey = random.pick(queuesOf(places));
}

/**
 * Whoever may write to the vhost may speak in anybody's name: an answer for an id of the load, or an announcement of a
 * group for its events, would be obeyed, as the docs say. Only signatures tell such a one from the real one.
 */
export function speaksForTheLiving({ properties, headers, body }: Forged): boolean {
  if ([...Object.values(properties), ...Object.values(headers)].some(value => String(value).includes(LIVING)))
    return true;
  return body.includes(LIVING) || announcesForTheLiving(body);
}

function announcesForTheLiving(body: Buffer): boolean {
  try {
    const { pattern, group } = JSON.parse(body.toString()) as { pattern?: unknown; group?: unknown };
    if (typeof pattern !== "string" || pattern.startsWith("strange.")) return false;
    // A group that lives is not moved.
    return !GROUPS.some(known => known.pattern === pattern && known.name === group);
  } catch {
    return false;
  }
}
