// The maker of a load, in a process of its own: it asks for emits over a socket, and does nothing else, so that what it
// costs is not taken from the node that is measured. An ask is 12 bytes: when it was due, and its number; an answer 5:
// the number, and how it ended.
import { connect } from "node:net";

export const ASK_BYTES = 12;
export const ANSWER_BYTES = 5;
export const ENDS = { accepted: 0, refused: 1, failed: 2 };

const PACE_MS = 5;
const now = () => performance.timeOrigin + performance.now();

/**
 * `rate`: asks per second, whatever becomes of them. `callers`: so many at a time, each asking again when it is answered.
 * Returns what was asked and how it ended, and the CPU time of this process, in µs per ask.
 */
async function generate({ port, rate, callers, ms }) {
  const socket = connect(port, "127.0.0.1").setNoDelay(true);
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const ended = { accepted: 0, refused: 0, failed: 0 };
  const names = Object.keys(ENDS);
  let asked = 0;
  let answered = 0;
  const ask = (count, due) => {
    if (count <= 0) return;
    const bytes = Buffer.allocUnsafe(count * ASK_BYTES);
    for (let i = 0; i < count; i++) {
      bytes.writeDoubleLE(due(i), i * ASK_BYTES);
      bytes.writeUInt32LE(asked++, i * ASK_BYTES + 8);
    }
    socket.write(bytes);
  };
  const from = now();
  const cpu = process.cpuUsage();
  const to = from + ms;
  let rest = Buffer.alloc(0);
  socket.on("data", chunk => {
    rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
    const count = Math.floor(rest.length / ANSWER_BYTES);
    for (let i = 0; i < count; i++) ended[names[rest[i * ANSWER_BYTES + 4]]]++;
    rest = rest.subarray(count * ANSWER_BYTES);
    answered += count;
    const at = now();
    if (callers && at < to) ask(count, () => at);
  });
  if (callers) {
    ask(callers, () => from);
    await new Promise(resolve => setTimeout(resolve, ms));
  } else {
    for (let at = from; at < to; at = now()) {
      const first = asked;
      ask(Math.floor(((at - from) / 1000) * rate) - first, i => from + ((first + i + 1) / rate) * 1000);
      await new Promise(resolve => setTimeout(resolve, PACE_MS));
    }
  }
  const { user, system } = process.cpuUsage(cpu);
  const inTime = { asked, ...ended };
  const late = now() + 60_000;
  while (answered < asked && now() < late) await new Promise(resolve => setTimeout(resolve, 20));
  socket.destroy();
  return {
    ...inTime,
    all: { ...ended, asked, open: asked - answered },
    ms: to - from,
    cpuMicros: (user + system) / asked
  };
}

process.on("message", async order => process.send(await generate(order)));
