import { fileURLToPath } from "node:url";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { aliases } from "./test/support/aliases.cjs";

const alias = fileURLToPath(new URL("./test/support/alias.cjs", import.meta.url));
const servers = ["./test/support/global-setup.ts"];

type Line = "0.15" | "0.14";

interface Kind {
  name: string;
  include: string[];
  exclude?: string[];
  line?: Line;
  dependencies?: "newest" | "lowest";
  backend?: "real" | "embedded";
  globalSetup?: string[];
}

function project({
  name,
  include,
  exclude = [],
  line = "0.15",
  dependencies = "newest",
  backend = "real",
  globalSetup = []
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
    test: {
      name,
      include,
      exclude: ["**/node_modules/**", ...exclude],
      globalSetup,
      env: { ...meant, RELIABLE_TEST_BACKEND: backend },
      execArgv: ["--require", alias]
    }
  };
}

const exclusive = "test/integration/exclusive/**/*.spec.ts";
const integration = { include: ["test/integration/**/*.spec.ts"], exclude: [exclusive], globalSetup: servers };
/** Where Moleculer and the drivers matter; the rest is our own code and has two lines to run on. */
const touching = [
  "*.both",
  "{adopting,lease,transactions,wire,shutdown,error-events,sweepers,security-tls,callback-line}.real",
  "amqp-faults",
  "amqp-queue.real",
  "callback-{loss,rounds}",
  "hot-path",
  "intents-barrier"
].map(name => `test/integration/${name}.spec.ts`);
const programs = "test/integration/{demo,examples}.both.spec.ts";
const lowest = {
  include: touching,
  exclude: [programs],
  globalSetup: servers,
  line: "0.14" as const,
  dependencies: "lowest" as const
};
/** Neither knows anything of Moleculer: once is enough. */
const lineless = "test/integration/{amqp-faults,lease.real,bench.real}.spec.ts";
/** What the two lines do differently; all of it runs on 0.14 with the real servers, too. */
const lineful =
  "test/integration/{first-run,line,strategies,emit,groups,repl,context,middlewares,odd-handlers,lifecycle-events,tracing,metrics}.both.spec.ts";
const embedded = {
  include: ["test/integration/**/*.both.spec.ts"],
  exclude: [exclusive],
  backend: "embedded" as const
};
const chaos = project({ name: "chaos", include: ["test/chaos/**/*.spec.ts"] });
const last = project({ name: "exclusive", include: [exclusive], globalSetup: servers });

export default defineConfig({
  test: {
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    // Two cores is what CI has; integration tests mostly wait for servers.
    maxWorkers: 3,
    allowOnly: false,
    // A landing must not fail by a busy machine; each test that needed another try is named at the end, to be looked
    // into.
    retry: process.env["CI"] ? 2 : 0,
    reporters: ["default", "./test/support/summary-reporter.ts"],
    projects: [
      project({ name: "unit", include: ["test/unit/**/*.spec.ts"] }),
      project({ name: "model", include: ["test/model/**/*.spec.ts"] }),
      project({
        name: "package",
        include: ["test/package/**/*.spec.ts"],
        globalSetup: [...servers, "./test/support/package-setup.ts"]
      }),
      project({ name: "conformance", include: ["test/conformance/**/*.spec.ts"], globalSetup: servers }),
      project({ name: "integration-0.15", ...integration }),
      project({ name: "integration-0.14", ...integration, exclude: [exclusive, lineless], line: "0.14" }),
      project({ name: "integration-lowest", ...lowest }),
      project({ name: "embedded-0.15", ...embedded }),
      project({ name: "embedded-0.14", ...embedded, include: [lineful], line: "0.14" }),
      // These disturb the servers that all share: one file after the other, when all others have ended.
      { ...last, test: { ...last.test, fileParallelism: false, sequence: { groupOrder: 1 } } },
      // A part of the fault matrix, on servers of its own: alone, for it takes the whole machine.
      { ...chaos, test: { ...chaos.test, fileParallelism: false, sequence: { groupOrder: 2 } } }
    ]
  }
});
