import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestProject } from "vitest/node" with { "resolution-mode": "import" };
import { installAll, pack } from "./installed";

/** The package as npm would publish it, installed into the projects that the specs share. */
export default async function setup(project: TestProject): Promise<() => void> {
	const folder = mkdtempSync(path.join(tmpdir(), "reliable-package-"));
	const tarball = await pack(folder);
	project.provide("packed", { folder, tarball });
	const began = performance.now();
	project.provide("installed", await installAll(folder, tarball));
	console.log(`package: installed into four projects in ${Math.round((performance.now() - began) / 1000)} s (${folder})`);
	return () => rmSync(folder, { recursive: true, force: true });
}
