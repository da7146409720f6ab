// What a CPU profile of V8 says: where the time went, by package, and as a tree of calls.
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";

/** Samples 10,000 times a second: a call that takes less is seen by its number. */
const INTERVAL_US = 100;

/** Profiles this process from now on; the returned function writes the file. */
export async function startProfile(file) {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: INTERVAL_US });
  await session.post("Profiler.start");
  return async () => {
    const { profile } = await session.post("Profiler.stop");
    session.disconnect();
    writeFileSync(file, JSON.stringify(profile));
  };
}

/** The folder, one deeper where each folder in it is for another server. */
const OWN = /\/dist\/(?:src\/)?((?:stores|couriers)\/[^/]+|[^/]+)\//;
const PACKAGE = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//;
/** Natives without a file that write to a socket: the system call is in them. */
const WRITES = /^(?:write|writev|writeBuffer|write(?:Utf8|Latin1|Ascii|Ucs2)String)$/;

/** Whose time a frame's own time is. */
export function ownerOf({ functionName, url }) {
  if (functionName === "(garbage collector)") return "Node.js: garbage collection";
  if (functionName === "(program)") return "Node.js: (program), native code outside of calls";
  if (functionName === "(root)") return "(root)";
  if (!url) return WRITES.test(functionName) ? "Node.js: socket writes" : "Node.js: other natives";
  if (url.startsWith("node:")) {
    const module = url.replace(/^node:(?:internal\/)?/, "").split("/")[0];
    if (["net", "stream_base_commons", "streams", "stream"].includes(module)) return "Node.js: sockets and streams";
    if (["buffer", "process", "timers", "async_hooks"].includes(module)) return `Node.js: ${module}`;
    return "Node.js: other modules";
  }
  const installed = PACKAGE.exec(url)?.[1];
  if (installed) return installed;
  const own = OWN.exec(url);
  if (own) return `ours: ${own[1] === "src" ? "its root" : own[1]}`;
  return url.includes("/bench/") ? "the load itself" : "other";
}

/**
 * Own time by node of the profile, in µs, without idling. By the clock: where the machine gave the core to others
 * meanwhile, that is in it, so that only shares mean something.
 */
function selfTimes({ nodes, samples, timeDeltas }) {
  const self = new Map();
  const idle = new Set(nodes.filter(({ callFrame }) => callFrame.functionName === "(idle)").map(({ id }) => id));
  for (let i = 0; i < samples.length; i++) {
    if (idle.has(samples[i])) continue;
    // A delta is the time since the sample before.
    self.set(samples[i], (self.get(samples[i]) ?? 0) + Math.max(0, timeDeltas[i + 1] ?? 0));
  }
  return self;
}

/** `{ owner, micros }`, largest first. */
export function byOwner(profile) {
  const self = selfTimes(profile);
  const sums = new Map();
  for (const { id, callFrame } of profile.nodes) {
    const owner = ownerOf(callFrame);
    sums.set(owner, (sums.get(owner) ?? 0) + (self.get(id) ?? 0));
  }
  return [...sums]
    .filter(([, micros]) => micros > 0)
    .map(([owner, micros]) => ({ owner, micros }))
    .sort((a, b) => b.micros - a.micros);
}

const place = ({ functionName, url, lineNumber }) => {
  const file = url.replace(/^.*\/node_modules\//, "").replace(/^.*\/dist\/(?=src|mixins)/, "");
  return `${functionName || "(anonymous)"}${url ? ` ${file.replace(/^file:.*\/(?=bench\/)/, "")}:${lineNumber + 1}` : ""}`;
};

/** The tree of calls, the same function under the same caller once: `{ name, owner, micros, children }`. */
export function callTree(profile) {
  const self = selfTimes(profile);
  const byId = new Map(profile.nodes.map(node => [node.id, node]));
  const merge = group => {
    const children = new Map();
    for (const id of group.flatMap(node => node.children ?? [])) {
      const child = byId.get(id);
      const name = place(child.callFrame);
      children.set(name, [...(children.get(name) ?? []), child]);
    }
    const below = [...children].map(([name, nodes]) => ({ name, owner: ownerOf(nodes[0].callFrame), ...merge(nodes) }));
    const own = group.reduce((sum, { id }) => sum + (self.get(id) ?? 0), 0);
    const micros = below.reduce((sum, child) => sum + child.micros, own);
    return { micros, children: below.filter(child => child.micros > 0).sort((a, b) => b.micros - a.micros) };
  };
  const root = profile.nodes.find(({ callFrame }) => callFrame.functionName === "(root)");
  return { name: "all", owner: "(root)", ...merge([root]) };
}
