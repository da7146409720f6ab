import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { userProject, type Line } from "../support/project";
import { codeAfter } from "../support/readme";

const run = promisify(execFile);

/** Type-checks a user's project; returns what the compiler says. */
async function compile(line: Line, moduleResolution: "node16" | "bundler"): Promise<string> {
	const compilerOptions = {
		strict: true,
		noEmit: true,
		target: "es2022",
		module: moduleResolution === "node16" ? "node16" : "preserve",
		moduleResolution,
		allowJs: true,
		checkJs: true,
		noImplicitAny: false,
		noUncheckedIndexedAccess: true,
		skipLibCheck: true,
		types: ["node"],
		// The package is a link here, so that it would find the repository's Moleculer, whatever the line.
		paths: { moleculer: ["./node_modules/moleculer"] }
	};
	const folder = userProject(line, {
		"package.json": JSON.stringify({ name: "user", private: true }),
		"tsconfig.json": JSON.stringify({ compilerOptions, include: ["*.ts", "*.js"] }),
		"readme.ts": codeAfter("## TypeScript", "ts")
	});
	return run(path.resolve("node_modules/.bin/tsc"), ["-p", folder]).then(
		({ stdout }) => stdout,
		(error: { stdout: string }) => error.stdout
	);
}

it.each([
	["0.15", "node16"],
	["0.15", "bundler"],
	["0.14", "node16"],
	["0.14", "bundler"]
] as const)("types for users of Moleculer %s with moduleResolution %s", async (line, moduleResolution) => {
	expect(await compile(line, moduleResolution)).toBe("");
});
