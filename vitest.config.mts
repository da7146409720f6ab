import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { aliases } from "./test/support/aliases.cjs";

const alias = fileURLToPath(new URL("./test/support/alias.cjs", import.meta.url));
const servers = ["./test/support/global-setup.ts"];

interface Kind {
  name: string;
  include: string[];
  line?: "0.15" | "0.14";
  dependencies?: "newest" | "lowest";
  backend?: "real" | "embedded";
  /** Of Vitest, where it differs from what all have. */
  more?: TestProjectInlineConfiguration["test"];
}

function project({
  name,
  include,
  line = "0.15",
  dependencies = "newest",
  backend = "real",
  more = {}
}: Kind): TestProjectInlineConfiguration {
  const meant = { MOLECULER_LINE: line, DEPENDENCIES: dependencies };
  return {
    extends: true,
    // Vite resolves the imports of our sources and specs; the preload does it for packages and for `require`.
    resolve: {
      alias: Object.entries(aliases(meant)).map(([name, replacement]) => ({
        find: new RegExp(`^${name}$`),
        replacement
      }))
    },
    test: { name, include, env: { ...meant, RELIABLE_TEST_BACKEND: backend }, execArgv: ["--require", alias], ...more }
  };
}

/** The specs of one folder, without those of the folders in it. */
const folder = (...names: string[]) => names.map(name => `test/${name}/*.spec.ts`);

/** No servers, no state: threads that share their imports. */
const light = { pool: "threads", isolate: false, execArgv: [] } as const;
/** Mostly waiting for servers, each test in a namespace of its own: files of a worker share their imports. */
const waiting = { isolate: false } as const;
const real = { ...waiting, globalSetup: servers };
const lowest = { line: "0.14", dependencies: "lowest" } as const;
/**
 * Chromium, and the built page. A test with two operators, an outage and a poll of 5 s has to wait for something. When
 * all others have ended: Chromium draws by the processor, and takes what it can get of it.
 */
const browser = {
  ...waiting,
  globalSetup: [...servers, "./test/support/browser-setup.ts"],
  testTimeout: 400_000,
  sequence: { groupOrder: 1 }
};
const withoutServers = { ...browser, globalSetup: ["./test/support/browser-setup.ts"] };
/** One file after the other, when all others have ended. */
const alone = (groupOrder: number) => ({ fileParallelism: false, sequence: { groupOrder } });

export default defineConfig({
  test: {
    pool: "forks",
    // A guard against what hangs; what a test waits for has bounds of its own.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 20_000,
    // More of them than cores make each test wait for a core, and no more tests an hour.
    maxWorkers: Math.min(3, availableParallelism()),
    allowOnly: false,
    retry: 0,
    reporters: ["default", "./test/support/summary-reporter.ts"],
    // What each is for, and which command runs it: test/README.md.
    projects: [
      project({ name: "unit", include: folder("unit"), more: light }),
      project({ name: "properties", include: folder("properties"), more: light }),
      project({ name: "docs", include: folder("docs"), more: light }),
      project({ name: "model", include: folder("model") }),
      project({ name: "model-large", include: folder("model/large") }),

      project({ name: "contract", include: folder("contract", "contract/real"), more: real }),
      project({ name: "contract-embedded", include: folder("contract", "contract/embedded"), backend: "embedded" }),
      project({ name: "contract-lowest", include: folder("contract", "contract/real"), more: real, ...lowest }),

      project({ name: "behaviour", include: folder("behaviour"), more: real }),
      project({ name: "behaviour-embedded", include: folder("behaviour"), backend: "embedded", more: waiting }),

      project({ name: "servers", include: folder("servers"), more: real }),
      project({ name: "servers-lowest", include: folder("servers"), more: real, ...lowest }),

      project({ name: "moleculer", include: folder("moleculer"), more: real }),
      project({ name: "moleculer-0.14", include: folder("moleculer", "behaviour"), more: real, line: "0.14" }),
      project({ name: "moleculer-lowest", include: folder("moleculer"), more: real, ...lowest }),

      project({ name: "dashboard", include: folder("dashboard"), more: browser }),
      project({ name: "dashboard-0.14", include: folder("dashboard"), more: browser, line: "0.14" }),
      project({
        name: "dashboard-embedded",
        include: folder("dashboard"),
        backend: "embedded",
        more: withoutServers
      }),
      project({ name: "dashboard-browser", include: folder("dashboard/whole"), more: browser }),

      project({ name: "examples", include: folder("examples", "examples/real"), more: real }),
      project({ name: "examples-embedded", include: folder("examples"), backend: "embedded" }),
      project({
        name: "package",
        include: folder("package"),
        more: { globalSetup: [...servers, "./test/support/package-setup.ts"] }
      }),
      project({ name: "answers-chosen", include: folder("answers"), more: real }),
      project({ name: "answers-lowest", include: folder("answers"), more: real, ...lowest }),
      project({ name: "answers", include: folder("answers/whole"), more: real }),
      project({ name: "own-servers", include: folder("own-servers"), more: { globalSetup: servers } }),
      project({ name: "chaos", include: folder("chaos"), more: alone(2) }),
      project({ name: "fuzz", include: folder("fuzz"), more: { ...alone(3), globalSetup: servers } })
    ]
  }
});
