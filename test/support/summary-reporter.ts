import type { Reporter, TestCase, TestModule, TestSuite, Vitest } from "vitest/node" with {
  "resolution-mode": "import"
};
import { UNSUPPORTED } from "./unsupported";

/** The closing line that CI reads, after the names of the tests that were skipped and why. */
export default class SummaryReporter implements Reporter {
  private vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 };
    const skipped: { test: TestCase; note: string }[] = [];
    const again: TestCase[] = [];
    for (const module of modules) {
      // A file that does not load and a hook that throws have no failed test to their name.
      count.failed += module.errors().length;
      for (const suite of module.children.allSuites()) count.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (test.diagnostic()?.retryCount) again.push(test);
        if (result.state === "passed") count.passed++;
        else if (result.state === "failed") count.failed++;
        else {
          count.skipped++;
          skipped.push({ test, note: result.state === "skipped" ? (result.note ?? "") : "never ran" });
        }
      }
    }
    if (again.length) {
      console.log("\nNeeded another try, and are to be looked into:");
      for (const test of again) console.log(`  ${named(test)}: ${test.result().errors?.[0]?.message ?? ""}`);
    }
    // With -t the tests that do not match are "skipped": nobody needs their names, and they are no fault.
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
    console.log(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
  }
}

function named(test: TestCase): string {
  const path: string[] = [test.name];
  for (let at: TestCase | TestSuite | TestModule = test; at.type !== "module"; ) {
    at = at.parent;
    if (at.type === "suite") path.unshift(at.name);
  }
  return `[${test.project.name}] ${test.module.relativeModuleId} > ${path.join(" > ")}`;
}
