import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { onTestFinished } from "vitest";

export type Line = "0.14" | "0.15";

/** A folder as a user's project would be: the built package and Moleculer in its node_modules. Removed at the end of the test. */
export function userProject(line: Line, files: Record<string, string>): string {
	const folder = mkdtempSync(path.join(tmpdir(), "user-"));
	onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
	const modules = path.join(folder, "node_modules");
	mkdirSync(modules);
	symlinkSync(path.resolve("."), path.join(modules, "moleculer-reliable-emit"));
	// `alias.cjs` asks for 0.14 by its name in this repository.
	for (const name of ["moleculer", "moleculer-014"]) symlinkSync(path.resolve("node_modules", line === "0.14" ? "moleculer-014" : "moleculer"), path.join(modules, name));
	symlinkSync(path.resolve("node_modules/@types"), path.join(modules, "@types"));
	cpSync("test/types/fixtures", folder, { recursive: true });
	for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
	return folder;
}
