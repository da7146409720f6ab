/**
 * Which folder may import which (docs/design.md, "The house"). From top to bottom: a file imports its own folder and
 * folders further down; folders on one line do not know each other, but for the EXCEPTIONS.
 */
const LAYERS = [
  ["src/index", "src/dashboard/command"],
  ["mixins"],
  ["src/amqp-queue", "src/operator/repl", "src/dashboard", "src/testing"],
  ["src/runtime"],
  ["src/operator", "src/tracker", "src/sweeper", "src/emit", "src/consumer"],
  ["src/producer-rpc", "src/progress"],
  ["src/outbound", "src/inbound"],
  ["src/telemetry"],
  ["src/stores", "src/couriers"],
  ["src/wire"],
  ["src/options", "src/async"],
  ["src/message"],
  ["src/platform"],
  ["src/errors"]
];

/** An emit's waiter is settled by what the tracker sees and what an operator does. */
const EXCEPTIONS = [{ from: { path: "^src/(operator|tracker)/" }, to: { path: "^src/emit/status-waiter\\.ts$" } }];

const inside = name => `^${name}(/|\\.ts$)`;
/** `src/operator` is not `src/operator/repl`, which has a line of its own. */
const outside = name =>
  LAYERS.flat()
    .filter(other => other !== name && other.startsWith(`${name}/`))
    .map(inside);

const downwards = LAYERS.flatMap((names, row) =>
  names.map(name => ({
    from: { path: inside(name), pathNot: outside(name) },
    to: {
      path: [
        inside(name),
        ...LAYERS.slice(row + 1)
          .flat()
          .map(inside)
      ]
    }
  }))
);

/** What the runtime puts together is not for mixins, but for the types of what they hand in and the operator's actions. */
const RUNTIME = LAYERS.findIndex(names => names.includes("src/runtime"));
const OPTIONS = LAYERS.findIndex(names => names.includes("src/options"));
const PARTS = LAYERS.slice(RUNTIME + 1, OPTIONS)
  .flat()
  .map(inside);
const KNOWN_TO_MIXINS = [
  "^src/emit/(emit-options|strategy)\\.ts$",
  "^src/consumer/(consumer|consumer-parts)\\.ts$",
  "^src/operator/",
  "^src/telemetry/metrics\\.ts$",
  "^src/wire/"
];

/** @type {import("dependency-cruiser").IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: "no-cycle",
      comment: "Files that need each other are one file, or need a third one below them; types count too.",
      severity: "error",
      from: {},
      to: { circular: true }
    },
    {
      name: "mixins-go-through-the-runtime",
      comment: "The runtime is the only place where parts meet.",
      severity: "error",
      from: { path: inside("mixins") },
      to: { path: PARTS, pathNot: KNOWN_TO_MIXINS }
    },
    {
      name: "moleculer-only-in-mixins",
      comment:
        "`src` knows a Logger, never a Service. Errors extend its errors, patterns match as its own do, and its REPL calls a command.",
      severity: "error",
      from: {
        path: "^src/",
        pathNot: "^src/(errors|message/pattern|operator/repl/command|dashboard/command/.+)\\.ts$"
      },
      to: { path: "node_modules/moleculer(-|/)" }
    },
    {
      name: "not-unresolvable",
      severity: "error",
      from: {},
      to: { couldNotResolve: true }
    },
    {
      name: "nothing-unused",
      comment: "A file that nobody imports is dead.",
      severity: "error",
      from: {
        path: "^(src|mixins)/",
        pathNot: "^src/(index|dashboard/command/main)\\.ts$",
        orphan: true
      },
      to: {}
    }
  ],
  allowed: [...downwards, ...EXCEPTIONS, { from: {}, to: { pathNot: "^(src|mixins)/" } }],
  allowedSeverity: "error",
  options: {
    parser: "swc",
    tsPreCompilationDeps: true,
    // A program of its own, of TSX, which the parser does not read; it takes types from `src`, and nothing else.
    exclude: { path: "^src/dashboard/page/" },
    doNotFollow: { path: "node_modules" }
  }
};
