// A node that is asked for more than it can do, by a process of its own.
import { fork } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { ANSWER_BYTES, ASK_BYTES, ENDS } from "../lib/generator.mjs";
import { each, percentiles } from "../lib/load.mjs";
import {
  consumerService,
  emitOf,
  emitterService,
  payloadOf,
  reliableNode,
  runtimeOf,
  subscribed,
  until
} from "../lib/world.mjs";

const GENERATOR = fileURLToPath(new URL("../lib/generator.mjs", import.meta.url));
const now = () => performance.timeOrigin + performance.now();
const MIB = 2 ** 20;

/** Answers asks with `act`, which gets the instant they were due; many answers in one write, as asks come many in one. */
async function asked(act) {
  const sockets = new Set();
  const server = createServer({ noDelay: true }, socket => {
    sockets.add(socket);
    let rest = Buffer.alloc(0);
    let answers = [];
    const flush = () => {
      const bytes = Buffer.allocUnsafe(answers.length * ANSWER_BYTES);
      answers.forEach(([number, end], i) => {
        bytes.writeUInt32LE(number, i * ANSWER_BYTES);
        bytes[i * ANSWER_BYTES + 4] = end;
      });
      answers = [];
      socket.write(bytes);
    };
    const answer = (number, end) => {
      if (answers.push([number, end]) === 1) setImmediate(flush);
    };
    socket.on("error", () => undefined);
    socket.on("data", chunk => {
      rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
      const count = Math.floor(rest.length / ASK_BYTES);
      for (let i = 0; i < count; i++) {
        const number = rest.readUInt32LE(i * ASK_BYTES + 8);
        act(rest.readDoubleLE(i * ASK_BYTES)).then(
          () => answer(number, ENDS.accepted),
          error => answer(number, error.type === "RELIABLE_UNAVAILABLE" ? ENDS.refused : ENDS.failed)
        );
      }
      rest = rest.subarray(count * ASK_BYTES);
    });
  });
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  const generator = fork(GENERATOR, [], { execArgv: [] });
  const { port } = server.address();
  const order = load =>
    new Promise((resolve, reject) => {
      generator.once("message", resolve).once("exit", () => reject(new Error("The generator has ended.")));
      generator.send({ port, ...load });
    });
  const end = () => {
    generator.removeAllListeners("exit");
    generator.kill();
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { order, end };
}

/** What the generator, and the taking of its asks, cost with an emit that does nothing. */
async function empty({ rate, ms }) {
  const { order, end } = await asked(async () => undefined);
  await order({ rate, ms: ms / 2 });
  const cpu = process.cpuUsage();
  const { asked: count, cpuMicros } = await order({ rate, ms });
  const { user, system } = process.cpuUsage(cpu);
  end();
  return { perSecond: (count / ms) * 1000, generatorMicros: cpuMicros, takingMicros: (user + system) / count };
}

/**
 * One node that emits, handles and records. `sustainable`: what it handles per second while `callers` messages at a time
 * are on their way from emit to handler. Then, for each of `times`, an open loop of so many times that, for `ms`. Then
 * again what it sustains: the store grows and the machine changes in these minutes, so the mean of both counts.
 */
async function loads({ namespace, bytes, strategy, callers, warmMs, sustainedMs, times, ms, restMs, options = {} }) {
  const waiting = new Map();
  let phase = { from: Infinity, to: Infinity, handled: 0, late: [] };
  const onEvent = ctx => {
    const at = now();
    const { due, number } = ctx.params;
    if (at >= phase.from && at < phase.to) phase.handled++;
    if (due >= phase.from && due < phase.to) phase.late.push(at - due);
    waiting.get(number)?.();
    waiting.delete(number);
  };
  const broker = await reliableNode({
    namespace,
    options: { strategy, ...options },
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, onEvent, { maxInFlight: 500 })]
  });
  await subscribed(broker, 1);
  const emit = emitOf(broker);
  const { totals } = runtimeOf(broker).metrics;
  const payload = payloadOf(bytes - 45);
  let sent = 0;
  let toHandler = true;
  const { order, end } = await asked(due => {
    const number = sent++;
    const emitted = emit({ ...payload, due, number });
    if (!toHandler) return emitted;
    const handled = new Promise(resolve => waiting.set(number, resolve));
    return emitted.then(() => handled);
  });
  const measured = async load => {
    const from = now() + (load.warmMs ?? 0);
    phase = { from, to: from + load.ms, handled: 0, late: [] };
    const mine = phase;
    const before = process.memoryUsage.rss();
    let peak = before;
    const at = {};
    const marks = [
      setTimeout(() => (at.from = { consumed: totals.consumed ?? 0, cpu: process.cpuUsage() }), load.warmMs ?? 0),
      setTimeout(
        () => (at.to = { consumed: totals.consumed ?? 0, cpu: process.cpuUsage(at.from.cpu) }),
        (load.warmMs ?? 0) + load.ms
      )
    ];
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 500);
    const {
      all,
      asked: offered,
      accepted,
      refused,
      cpuMicros
    } = await order({
      ...load,
      ms: load.ms + (load.warmMs ?? 0)
    });
    clearInterval(watch);
    for (const mark of marks) clearTimeout(mark);
    const perSecond = count => (count / load.ms) * 1000;
    return {
      handled: perSecond(mine.handled),
      recorded: perSecond(at.to.consumed - at.from.consumed),
      accepted,
      refused,
      offered: (offered / (load.ms + (load.warmMs ?? 0))) * 1000,
      failed: all.failed,
      open: all.open,
      growthMiB: (peak - before) / MIB,
      generatorMicros: cpuMicros,
      nodeMicros:
        (at.to.cpu.user + at.to.cpu.system) / Math.max(1, (offered * load.ms) / (load.ms + (load.warmMs ?? 0))),
      late: () => percentiles(mine.late)
    };
  };
  const drained = () =>
    until(() => (totals.consumed ?? 0) >= sent - (totals["emit.refused"] ?? 0), "the late ones", {
      timeoutMs: restMs
    }).catch(() => undefined);
  const sustain = async warmMs => {
    toHandler = true;
    const { late: _, ...sustained } = await measured({ callers, warmMs, ms: sustainedMs });
    toHandler = false;
    return { ...sustained, perSecond: Math.min(sustained.handled, sustained.recorded) };
  };
  const sustained = await sustain(warmMs);
  const results = [];
  for (const factor of times) {
    const { late, ...result } = await measured({ rate: sustained.perSecond * factor, ms });
    await drained();
    // What is late belongs to the p99 as well.
    results.push({ factor, ...result, ...late(), totals: { ...totals } });
  }
  const after = await sustain(warmMs / 4);
  end();
  await broker.stop();
  return { sustainable: (sustained.perSecond + after.perSecond) / 2, sustained, after, results };
}

/** The same number of emits accepted, a thousand at a time, and refused. */
async function refusals({ namespace, bytes, count }) {
  const broker = await reliableNode({
    namespace,
    options: { strategy: "outbox", service: false, redis: undefined, maxPending: 1000 },
    services: mixin => [emitterService(mixin)]
  });
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const spent = async op => {
    await op(count / 4);
    const cpu = process.cpuUsage();
    await op(count);
    const { user, system } = process.cpuUsage(cpu);
    return (user + system) / count;
  };
  const acceptedMicros = await spent(n => each(n, 500, () => emit(payload)));
  // What fills the line stays in it: the store is away for this long.
  const { insertQueue } = runtimeOf(broker).storage;
  const full = { get: () => 1000, configurable: true };
  Object.defineProperty(insertQueue, "size", full);
  let refused = 0;
  const refusedMicros = await spent(n => each(n, 500, () => emit(payload).catch(() => refused++)));
  Object.defineProperty(insertQueue, "size", { get: () => 0 });
  await broker.stop();
  if (refused !== count + count / 4) throw new Error(`${refused} emits were refused.`);
  return { acceptedMicros, refusedMicros };
}

export default { empty, loads, refusals };
