import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";

interface Import {
  specifier: string;
  /** The area and file of the project it means; undefined for a package. */
  file: string | undefined;
  /** Erased by the compiler. */
  typeOnly: boolean;
}

/**
 * The areas from top to bottom. A file imports its own area and areas further down; areas on one line do not know each
 * other, but for the leaves. A file is named without its ending, a folder with its slash.
 */
const AREAS: readonly (readonly string[])[] = [
  ["mixins/"],
  ["src/repl/"],
  ["src/operator/health", "src/amqp-queue/queues"],
  ["src/runtime/runtime"],
  ["src/runtime/shutdown"],
  ["src/runtime/backends"],
  ["src/emit/emit"],
  ["src/strategies/", "src/consumer/", "src/tracker/tracker", "src/sweeper/", "src/operator/operations"],
  [
    "src/outbound/message-publisher",
    "src/outbound/subscriptions",
    "src/emit/status-waiter",
    "src/producer-rpc/client",
    "src/inbound/batch-consumer",
    "src/inbound/parked-messages",
    "src/telemetry/gauges"
  ],
  ["src/stores/", "src/couriers/"],
  [
    "src/platform/process-shared",
    "src/async/deadline",
    "src/runtime/services",
    "src/telemetry/metrics",
    "src/options/options",
    "src/errors",
    "src/platform/tls",
    "src/platform/logger",
    "src/async/backoff",
    "src/async/batcher",
    "src/async/expiring-set",
    "src/async/wait-group",
    "src/operator/views",
    "src/message/"
  ]
];
const RUNTIME = AREAS.findIndex(areas => areas.includes("src/runtime/runtime"));
const LEAVES = AREAS.length - 1;
/** What several parts use; its files work with each other. */
const SHARED = AREAS.findIndex(areas => areas.includes("src/outbound/message-publisher"));

let importsOf: (source: string) => Omit<Import, "file">[];
const files = ["src", "mixins"].flatMap(folder =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter(file => file.endsWith(".ts"))
    .map(file => path.posix.join(folder, file))
);
const modules = files.filter(file => file !== "src/index.ts");

function areaOf(file: string): { row: number; area: string } | undefined {
  const name = file.replace(/\.ts$/, "");
  for (const [row, areas] of AREAS.entries()) {
    // A file may become a folder of the same name without moving to another area.
    const area = areas.find(
      candidate => name === candidate || name.startsWith(candidate.endsWith("/") ? candidate : `${candidate}/`)
    );
    if (area) return { row, area };
  }
  return undefined;
}

function resolve(from: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = path.posix.join(path.posix.dirname(from), specifier).replace(/\.js$/, "");
  return [`${target}.ts`, `${target}/index.ts`].find(file => files.includes(file)) ?? target;
}

function imports(file: string): Import[] {
  return importsOf(readFileSync(file, "utf8")).map(found => ({ ...found, file: resolve(file, found.specifier) }));
}

/** What is wrong with an import, if anything. */
function objection(from: string, to: string, typeOnly: boolean): string | undefined {
  const here = areaOf(from);
  const there = areaOf(to);
  if (to === "src/index.ts") return "the entry is for users; import the file that it re-exports";
  if (!here || !there) return `${here ? to : from} has no place in the table of this test`;
  if (here.area === there.area) return undefined;
  if (here.row > there.row) return "points upwards";
  if (here.row === there.row && here.row !== LEAVES && here.row !== SHARED) return "points sideways";
  if (here.row === 0 && there.row > RUNTIME && there.row < LEAVES && !typeOnly)
    return "the runtime is the only place where the parts meet; a mixin goes through it";
  return undefined;
}

beforeAll(async () => {
  const { parseSync, Visitor } = await import("vite");
  importsOf = source => {
    const { program, errors } = parseSync("source.ts", source);
    if (errors.length) throw new Error(errors.map(error => error.message).join("\n"));
    const found: Omit<Import, "file">[] = [];
    const add = (node: { type: string; value?: unknown } | null, typeOnly: boolean) => {
      if (node?.type === "Literal" && typeof node.value === "string") found.push({ specifier: node.value, typeOnly });
    };
    new Visitor({
      ImportDeclaration: node =>
        add(
          node.source,
          node.importKind === "type" ||
            (node.specifiers.length > 0 &&
              node.specifiers.every(
                specifier => specifier.type === "ImportSpecifier" && specifier.importKind === "type"
              ))
        ),
      ExportNamedDeclaration: node => add(node.source, node.exportKind === "type"),
      ExportAllDeclaration: node => add(node.source, node.exportKind === "type"),
      ImportExpression: node => add(node.source, false),
      TSImportType: node => add(node.source, true),
      TSExternalModuleReference: node => add(node.expression, false),
      CallExpression: node => {
        if (node.callee.type === "Identifier" && node.callee.name === "require") add(node.arguments[0] ?? null, false);
      }
    }).visit(program);
    return found;
  };
});

describe("the check itself", () => {
  it("sees every kind of import", () => {
    const source = `
			import type { A } from "./a";
			import { type B, b } from "./b";
			import { type C } from "./c";
			export { d } from "./d";
			export * from "./e";
			import f = require("./f");
			const g: import("./g").G = await import("./h");
			require("./i");
			import "./j";
		`;
    const seen = importsOf(source).map(({ specifier, typeOnly }) => specifier + (typeOnly ? " (type)" : ""));
    expect(seen.toSorted()).toEqual([
      "./a (type)",
      "./b",
      "./c (type)",
      "./d",
      "./e",
      "./f",
      "./g (type)",
      "./h",
      "./i",
      "./j"
    ]);
  });

  it.each([
    ["mixins/a.mixin.ts", "src/runtime/runtime.ts", false, undefined],
    ["mixins/a.mixin.ts", "src/stores/store.ts", true, undefined],
    ["mixins/a.mixin.ts", "src/stores/mongo/store.ts", false, "only place"],
    ["src/runtime/runtime.ts", "src/sweeper/sweep.ts", false, undefined],
    ["src/tracker/tracker.ts", "src/stores/store.ts", false, undefined],
    ["src/tracker/tracker.ts", "src/consumer/consumer.ts", true, "sideways"],
    ["src/stores/mongo/store.ts", "src/couriers/courier.ts", true, "sideways"],
    ["src/couriers/amqp/confirm-channel.ts", "src/outbound/message-publisher.ts", false, "upwards"],
    ["src/message/message.ts", "src/stores/store.ts", true, "upwards"],
    ["src/options/options.ts", "src/message/message.ts", true, undefined],
    ["src/tracker/tracker.ts", "src/index.ts", false, "entry"],
    ["src/manager.ts", "src/errors.ts", false, "no place"]
  ])("%s → %s (type only: %s): %s", (from, to, typeOnly, expected) => {
    const found = objection(from, to, typeOnly);
    if (expected === undefined) expect(found).toBeUndefined();
    else expect(found).toContain(expected);
  });
});

describe("the sources", () => {
  it("import one way: mixins → runtime → parts → stores and couriers → leaves", () => {
    const wrong = modules.flatMap(from =>
      imports(from).flatMap(({ specifier, file, typeOnly }) => {
        const why = file && objection(from, file, typeOnly);
        return why ? [`${from} imports "${specifier}": ${why}`] : [];
      })
    );
    const homeless = modules
      .filter(file => !areaOf(file))
      .map(file => `${file} has no place in the table of this test`);
    expect([...wrong, ...homeless]).toEqual([]);
  });

  it("have no import cycles, types aside", () => {
    const edges = new Map(
      modules.map(from => [from, imports(from).flatMap(({ file, typeOnly }) => (file && !typeOnly ? [file] : []))])
    );
    const done = new Set<string>();
    const cycles: string[] = [];
    const walk = (file: string, trail: string[]) => {
      if (trail.includes(file)) return void cycles.push([...trail.slice(trail.indexOf(file)), file].join(" → "));
      if (done.has(file)) return;
      for (const next of edges.get(file) ?? []) walk(next, [...trail, file]);
      done.add(file);
    };
    for (const file of modules) walk(file, []);
    expect(cycles).toEqual([]);
  });

  it("know Moleculer's Service only in the mixins", () => {
    const wrong = modules.filter(
      file =>
        file.startsWith("src/") &&
        /\bimport\b[^;]*\bService(Schema)?\b[^;]*from "moleculer"/.test(readFileSync(file, "utf8"))
    );
    expect(wrong).toEqual([]);
  });

  it("have an entry that only re-exports", async () => {
    const { parseSync } = await import("vite");
    const entry = files.filter(file => file === "src/index.ts");
    const own = entry.flatMap(file =>
      parseSync(file, readFileSync(file, "utf8")).program.body.filter(
        statement =>
          !(
            statement.type === "ExportAllDeclaration" ||
            (statement.type === "ExportNamedDeclaration" && statement.source)
          )
      )
    );
    expect(own.map(statement => statement.type)).toEqual([]);
  });
});
