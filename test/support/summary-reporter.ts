import type { Reporter, TestCase, TestModule, TestSuite, Vitest } from "vitest/node" with {
  "resolution-mode": "import"
};
import { UNSUPPORTED } from "./unsupported";

const SLOWEST = 10;

/** The closing line that CI reads, after the names of the tests that were skipped and why, and of the slowest files. */
export default class SummaryReporter implements Reporter {
  private vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 };
    const skipped: { test: TestCase; note: string }[] = [];
    for (const module of modules) {
      // A file that does not load and a hook that throws have no failed test to their name.
      count.failed += module.errors().length;
      for (const suite of module.children.allSuites()) count.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed") count.passed++;
        else if (result.state === "failed") count.failed++;
        else {
          count.skipped++;
          skipped.push({ test, note: result.state === "skipped" ? (result.note ?? "") : "never ran" });
        }
      }
    }
    // With -t the tests that do not match are "skipped": they are no fault, and are not named.
    const filtered = Boolean(this.vitest?.config.testNamePattern);
    const undeclared = filtered ? [] : skipped.filter(({ note }) => !note.startsWith(UNSUPPORTED));
    if (!filtered && skipped.length) {
      console.log("\nSkipped:");
      for (const { test, note } of skipped) console.log(`  ${named(test)}: ${note || "no reason given"}`);
    }
    if (undeclared.length)
      console.log(
        `${undeclared.length} of them not for what the MongoDB server cannot do (test/support/unsupported.ts): that fails the run.`
      );
    if (!count.passed && !count.failed) console.log("No test ran: that fails the run.");
    if (count.failed || undeclared.length || !count.passed) process.exitCode = 1;
    slowest(modules);
    console.log(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
  }
}

/** Where the time went: with the imports, which are shared where files are not isolated. */
function slowest(modules: readonly TestModule[]): void {
  const took = (module: TestModule) => {
    const { duration, collectDuration } = module.diagnostic();
    return duration + collectDuration;
  };
  console.log(`\nThe slowest ${Math.min(modules.length, SLOWEST)} of ${modules.length} files:`);
  for (const module of modules.toSorted((a, b) => took(b) - took(a)).slice(0, SLOWEST))
    console.log(`  ${(took(module) / 1000).toFixed(1)} s  [${module.project.name}] ${module.relativeModuleId}`);
}

function named(test: TestCase): string {
  const path: string[] = [test.name];
  for (let at: TestCase | TestSuite | TestModule = test; at.type !== "module"; ) {
    at = at.parent;
    if (at.type === "suite") path.unshift(at.name);
  }
  return `[${test.project.name}] ${test.module.relativeModuleId} > ${path.join(" > ")}`;
}
