import { type ChildProcess, fork } from "node:child_process";
import { createWriteStream } from "node:fs";
import path from "node:path";
import { type MongoSet, mongoSet } from "../support/mongo-set";
import { freePort } from "../support/ports";
import { type TcpProxy, tcpProxy } from "../support/tcp-proxy";
import type { Servers } from "./servers";

export const ROLES = ["producer", "consumer", "sweeper", "callback"] as const;
export type Role = (typeof ROLES)[number];
export type Link = "amqp" | "mongo" | "redis";

export const DATABASE = "chaos";
export const CHECK_DELAYS = [1500, 2500, 4000, 6000, 9000];

/** Far below the defaults, so that a fault can outlast them all; in the same order as the defaults. */
const QUICK = {
  sweepEveryMs: 200,
  refreshMs: 300,
  backoff: { initialMs: 200, maxMs: 2000, jitter: "half" },
  leaseMs: 2000,
  claimMs: 5000,
  confirmTimeoutMs: 3000,
  handlerTimeoutMs: 3000,
  receiptTimeoutMs: 6000,
  askTimeoutMs: 3000,
  repairEveryMs: 2000,
  checkDelaysMs: CHECK_DELAYS,
  breaker: { pauseMs: 200, maxPauseMs: 2000 },
  drainTimeoutMs: 8000
};
/** Of RabbitMQ: a node that is frozen is given up after two of them. */
const HEARTBEAT_S = 2;

/** What decides how long a node of RabbitMQ is waited for is as users have it; only compensation is quicker. */
const BY_DEFAULT = {
  sweepEveryMs: 500,
  refreshMs: 1000,
  backoff: { initialMs: 500, maxMs: 5000, jitter: "half" },
  handlerTimeoutMs: 5000,
  receiptTimeoutMs: 20_000,
  checkDelaysMs: [10_000, 15_000, 20_000, 30_000, 60_000]
};

/** Of `test/servers/sentinel`. */
const SENTINELS = [6433, 6434, 6435].map(port => ({ host: "127.0.0.1", port }));

export interface Shape {
  /** Emits a second, of all producers. */
  rate: number;
  /** Where a fault takes its time, at most so many emits in all. */
  cap: number;
  poisonEvery: number;
  padBytes: number;
  /** A third of the emits is to be sent later, after up to so long, and some of them are called off. */
  laterMs?: number;
  /** All of strategy `outbox`, with so many order keys by turns, of which each spans all events. */
  orderKeys?: number;
  /** Nodes beside the seven, by names such as theirs. */
  more?: string[];
  /** Clocks that go wrong, by node. */
  clockMs?: Record<string, number>;
  /** RabbitMQ's heartbeat, confirm timeout and repair are the defaults. */
  byDefault?: true;
  /** Without any progress for so long the drain is given up. */
  stuckMs?: number;
  /** Goes through a proxy of the harness: roles and what they connect to. */
  through?: Partial<Record<Role, Link[]>>;
  /** Between all of them and MongoDB: two members of a set, which change roles and answer what the fault says. */
  mongoSet?: true;
  /** A database of Redis of its own, by node: its lease is not the others'. */
  redisDatabase?: Record<string, number>;
  /** Nodes that start later, by hand. */
  absent?: string[];
  env?: Record<string, Record<string, string>>;
  line: "0.15" | "0.14";
}

interface NodeProcess {
  child: ChildProcess;
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  up: boolean;
  told: Map<string, (data: unknown) => void>;
  /** Emits begun, of a producer. */
  emits: number;
}

const roleOf = (name: string): Role => name.replace(/\d+$/, "") as Role;

/** Seven Moleculer nodes, each a process: two producers, two consumers, two sweepers, a callback service. */
export class Cluster {
  readonly journals: string[] = [];
  /** Of nodes that ended in another way than they were told to. */
  readonly accidents: string[] = [];
  /** Emits begun so far. */
  emits = 0;
  private readonly ports: Record<string, number> = {};
  private readonly nodes = new Map<string, NodeProcess>();
  private readonly proxies = new Map<string, TcpProxy>();
  private set: MongoSet | undefined;
  private readonly lives = new Map<string, number>();
  private calls = 0;

  constructor(
    readonly namespace: string,
    private readonly folder: string,
    private readonly servers: Servers,
    private readonly shape: Shape
  ) {}

  static readonly NAMES: Record<Role, string[]> = {
    producer: ["producer1", "producer2"],
    consumer: ["consumer1", "consumer2"],
    sweeper: ["sweeper1", "sweeper2"],
    callback: ["callback1"]
  };

  static readonly ALL = ROLES.flatMap(role => Cluster.NAMES[role]);

  async start(): Promise<void> {
    // Above the servers' ports and what the kernel gives to clients: a node that is down must find its own again.
    for (const name of [...Cluster.ALL, ...(this.shape.more ?? [])]) this.ports[name] = await freePort(61_000, 65_000);
    for (const [role, links] of Object.entries(this.shape.through ?? {})) {
      for (const link of links)
        this.proxies.set(`${role}:${link}`, await tcpProxy({ host: "127.0.0.1", port: this.servers.port(link) }));
    }
    if (this.shape.mongoSet) this.set = await mongoSet(this.servers.mongo);
    const early = (role: Role) =>
      this.names(role)
        .filter(name => !this.shape.absent?.includes(name))
        .map(name => this.launch(name));
    // Groups are known before the first emit: who announces himself later is not owed what was before.
    await Promise.all([...early("consumer"), ...early("callback")]);
    await Promise.all([...early("sweeper"), ...early("producer")]);
  }

  /** Of this run. */
  names(role: Role): string[] {
    return [...Cluster.NAMES[role], ...(this.shape.more ?? []).filter(name => roleOf(name) === role)];
  }

  proxy(role: Role, link: Link): TcpProxy {
    const proxy = this.proxies.get(`${role}:${link}`);
    if (!proxy) throw new Error(`${role} has no proxy before ${link}.`);
    return proxy;
  }

  get mongo(): MongoSet {
    if (!this.set) throw new Error("MongoDB is not behind a set of two members.");
    return this.set;
  }

  get links(): { role: Role; link: Link; proxy: TcpProxy }[] {
    return [...this.proxies].map(([key, proxy]) => ({
      role: key.split(":")[0] as Role,
      link: key.split(":")[1] as Link,
      proxy
    }));
  }

  /** Starts a node, again after it has ended; `env` for this life only. */
  async launch(name: string, env: Record<string, string> = {}): Promise<void> {
    const life = (this.lives.get(name) ?? 0) + 1;
    this.lives.set(name, life);
    const journal = path.join(this.folder, `${name}.${life}.journal`);
    this.journals.push(journal);
    const role = roleOf(name);
    const { rate, cap, poisonEvery, padBytes, clockMs, laterMs, orderKeys } = this.shape;
    const spec = {
      nodeID: name,
      namespace: this.namespace,
      role,
      journal,
      line: `${name}.${life}`,
      ports: this.ports,
      rate: rate / Cluster.NAMES.producer.length,
      poisonEvery,
      padBytes,
      laterMs,
      orderKeys,
      clockMs: clockMs?.[name],
      cap: Math.max(0, cap - this.emits) / Cluster.NAMES.producer.length,
      options: this.options(name, role)
    };
    const execArgv = ["--expose-gc", "--require", path.resolve("test/support/alias.cjs")];
    if (env["CRASH_POINTS"] ?? this.shape.env?.[name]?.["CRASH_POINTS"])
      execArgv.push("--require", path.resolve("test/support/crash-preload.cjs"));
    const child = fork(path.resolve("test/chaos/node.cjs"), [], {
      execArgv,
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      env: {
        ...process.env,
        NODE_ENV: "production",
        MOLECULER_LINE: this.shape.line,
        CHAOS_NODE: JSON.stringify(spec),
        ...this.shape.env?.[name],
        ...env
      }
    });
    const log = createWriteStream(path.join(this.folder, `${name}.log`), { flags: "a" });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    child.once("close", () => log.end());
    const node: NodeProcess = {
      child,
      up: true,
      emits: 0,
      told: new Map(),
      exited: new Promise(resolve => child.once("exit", (code, signal) => resolve({ code, signal })))
    };
    void node.exited.then(() => (node.up = false));
    child.on("message", ({ name: what, data }: { name: string; data?: unknown }) => {
      if (what === "emitting") this.emits += Number(data) - node.emits;
      if (what === "emitting") node.emits = Number(data);
      node.told.get(what)?.(data);
    });
    child.on("error", () => undefined);
    this.nodes.set(name, node);
    await this.told(name, "started");
  }

  /** Resolves when the node has said it; or, with undefined, when it has ended. */
  async told<T>(name: string, what: string, timeoutMs = 180_000): Promise<T | undefined> {
    const node = this.node(name);
    let timer: NodeJS.Timeout | undefined;
    const said = new Promise<T | undefined>((resolve, reject) => {
      node.told.set(what, data => resolve(data as T));
      timer = setTimeout(
        () => reject(new Error(`${name} did not say "${what}" within ${timeoutMs} ms; see ${this.folder}/${name}.log`)),
        timeoutMs
      );
      void node.exited.then(() => resolve(undefined));
    });
    return said.finally(() => {
      clearTimeout(timer);
      node.told.delete(what);
    });
  }

  say(name: string, what: string, data?: object): void {
    const { child, up } = this.node(name);
    if (up) child.send({ name: what, data }, () => undefined);
  }

  /** Of the node's broker. */
  async call<T>(name: string, action: string, params: object): Promise<T> {
    const id = `call ${this.calls++}`;
    const told = this.told<{ answer: T; error?: string }>(name, id, 30_000);
    this.say(name, "call", { id, action, params });
    const said = await told;
    if (!said || said.error) throw new Error(said?.error ?? `${name} ended in the call of ${action}.`);
    return said.answer;
  }

  isUp(name: string): boolean {
    return this.nodes.get(name)?.up ?? false;
  }

  exited(name: string): NodeProcess["exited"] {
    return this.node(name).exited;
  }

  async kill(name: string): Promise<void> {
    const node = this.node(name);
    node.child.kill("SIGKILL");
    await node.exited;
  }

  freeze(name: string): void {
    this.node(name).child.kill("SIGSTOP");
  }

  thaw(name: string): void {
    this.node(name).child.kill("SIGCONT");
  }

  /** SIGTERM; notes an accident when the node does not end as it should. */
  async stop(name: string, withinMs = QUICK.drainTimeoutMs + 10_000): Promise<void> {
    const node = this.nodes.get(name);
    if (!node?.up) return;
    const started = performance.now();
    node.child.kill("SIGTERM");
    const timer = setTimeout(() => node.child.kill("SIGKILL"), withinMs);
    const { code, signal } = await node.exited;
    clearTimeout(timer);
    if (code !== 0)
      this.accidents.push(
        `${name} ended with ${signal ?? code} ${Math.round(performance.now() - started)} ms after SIGTERM`
      );
  }

  async end(): Promise<void> {
    for (const { child } of this.nodes.values()) child.kill("SIGCONT");
    // Consumers and sweepers last: what the others leave is theirs.
    for (const role of ["producer", "sweeper", "callback", "consumer"] as const)
      await Promise.all(this.names(role).map(name => this.stop(name)));
    await Promise.all([this.set, ...this.proxies.values()].map(proxy => proxy?.close()));
  }

  /** Whatever is left, at once: for a run that failed. */
  abandon(): void {
    for (const { child } of this.nodes.values()) child.kill("SIGKILL");
    for (const proxy of [this.set, ...this.proxies.values()]) void proxy?.close();
  }

  private node(name: string): NodeProcess {
    const node = this.nodes.get(name);
    if (!node) throw new Error(`There is no node ${name}.`);
    return node;
  }

  private options(name: string, role: Role): object {
    const { byDefault } = this.shape;
    const amqp = this.addresses(role).map(url => (byDefault ? url : `${url}?heartbeat=${HEARTBEAT_S}`));
    const mongo = this.address(role, "mongo");
    const common = { amqp, mongo, database: DATABASE, ...(byDefault ? BY_DEFAULT : QUICK) };
    if (role === "producer" || role === "consumer") return { ...common, service: false };
    return {
      ...common,
      redis: this.servers.clustered
        ? { sentinels: SENTINELS, name: "mymaster" }
        : `${this.address(role, "redis")}/${this.shape.redisDatabase?.[name] ?? 0}`,
      sweeper: role === "sweeper"
    };
  }

  private addresses(role: Role): string[] {
    const proxy = this.proxies.get(`${role}:amqp`);
    return this.servers.nodes.map(url => (proxy ? url.replace(/:\d+$/, `:${proxy.port}`) : url));
  }

  private address(role: Role, link: "mongo" | "redis"): string {
    if (link === "mongo" && this.set) return this.set.url;
    const proxy = this.proxies.get(`${role}:${link}`);
    const url = this.servers[link];
    if (!proxy) return url;
    // The driver would go on to the address that the replica set gives of itself.
    return url.replace(/:\d+(?=\/|$)/, `:${proxy.port}`).replace("replicaSet=rs0", "directConnection=true");
  }
}
