import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestProject } from "vitest/node" with { "resolution-mode": "import" };
import { installAll, pack } from "./installed";

/** The package as npm would publish it, installed into the projects that the specs share. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = mkdtempSync(path.join(tmpdir(), "reliable-package-"));
  const tarball = await pack(folder);
  project.provide("packed", { folder, tarball });
  const began = performance.now();
  project.provide("installed", await installAll(folder, tarball));
  console.log(
    `package: installed into four projects in ${Math.round((performance.now() - began) / 1000)} s (${folder})`
  );
  // Not at one go: it takes seconds, in which vitest must hear of its workers' ends.
  return () => rm(folder, { recursive: true, force: true });
}
