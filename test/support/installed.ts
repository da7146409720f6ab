import { execFile, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { inject, onTestFinished } from "vitest";

/** A user's project after `npm install`. */
export interface Installed {
  folder: string;
  code: number;
  /** What npm said, both streams. */
  output: string;
}

/** What users have beside us; each name is a project. */
export const PROJECTS = {
  "0.15": ["moleculer@^0.15.0", "moleculer-web@^0.11.0"],
  "0.15 with its own drivers": [
    "moleculer@^0.15.0",
    "moleculer-web@^0.11.0",
    "amqplib@^0.10.0",
    "ioredis@^5.0.0",
    "mongodb@^6.0.0"
  ],
  "0.14": ["moleculer@^0.14.0", "moleculer-web@^0.10.8"],
  "0.14 with its own drivers": [
    "moleculer@^0.14.0",
    "moleculer-web@^0.10.8",
    "amqplib@^0.10.0",
    "ioredis@^5.0.0",
    "mongodb@^6.0.0"
  ]
} as const;

export type ProjectName = keyof typeof PROJECTS;
export const PROJECT_NAMES = Object.keys(PROJECTS) as ProjectName[];

/** What runner and compiler ask of a project; no user is without it for long. */
const ALWAYS = ["moleculer-repl", "dotenv", "@types/node@^20"];

export interface Packed {
  folder: string;
  tarball: string;
}

declare module "vitest" {
  interface ProvidedContext {
    packed: Packed;
    installed: Record<ProjectName, Installed>;
  }
}

export function packed(): Packed {
  return inject("packed");
}

export function installed(name: ProjectName): Installed {
  return inject("installed")[name];
}

interface Result {
  code: number;
  output: string;
}

/** Runs a program to its end; never rejects. */
export function run(
  file: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}
): Promise<Result> {
  return new Promise(resolve => {
    const child = execFile(file, args, { maxBuffer: 64 * 1024 * 1024, ...options }, (error, stdout, stderr) =>
      resolve({ code: error ? (child.exitCode ?? 1) : 0, output: stdout + stderr })
    );
    child.stdin?.end();
  });
}

/**
 * `npm install` as a user types it: nothing of this repository's or this developer's settings but how the registry is
 * reached, and the cache.
 */
export async function npmInstall(folder: string, specs: readonly string[], manifest: object = {}): Promise<Installed> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    path.join(folder, "package.json"),
    JSON.stringify({ name: "user", version: "1.0.0", private: true, ...manifest })
  );
  return {
    folder,
    ...(await run("npm", ["install", ...specs], { cwd: folder, env: npmEnvironment(path.dirname(folder)) }))
  };
}

/** Of a user whose home is this folder. */
export function npmEnvironment(home: string): NodeJS.ProcessEnv {
  const config = path.join(home, "npmrc");
  const get = (name: string) =>
    execFileSync("npm", ["config", "get", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  if (!existsSync(config))
    writeFileSync(
      config,
      ["registry", "cafile", "cache"]
        .map(name => [name, get(name)])
        .filter(([, value]) => value !== "null")
        .map(line => `${line.join("=")}\nupdate-notifier=false\n`)
        .join("")
    );
  const kept = Object.entries(process.env).filter(([name]) =>
    /^(PATH|LANG|TMPDIR|NODE_EXTRA_CA_CERTS|(https?|no)_proxy)$/i.test(name)
  );
  return { ...Object.fromEntries(kept), HOME: home, npm_config_userconfig: config };
}

/** Packs what `npm run build` has built. Its own scripts would build again, under the feet of other tests. */
export async function pack(folder: string, from = "."): Promise<string> {
  const { code, output } = await run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], {
    cwd: from
  });
  const file = /^\S+\.tgz$/m.exec(output)?.[0];
  if (code !== 0 || !file) throw new Error(`npm pack failed (${code}): ${output}`);
  return path.join(folder, file);
}

export async function installAll(folder: string, tarball: string): Promise<Record<ProjectName, Installed>> {
  const results: [string, Installed][] = [];
  // One after the other: npm's cache is filled by the first.
  for (const name of PROJECT_NAMES)
    results.push([
      name,
      await npmInstall(path.join(folder, name.replace(/\W+/g, "-")), [...PROJECTS[name], ...ALWAYS, tarball])
    ]);
  return Object.fromEntries(results) as Record<ProjectName, Installed>;
}

interface Locked {
  version: string;
  dependencies?: Record<string, string>;
  deprecated?: string;
  hasInstallScript?: boolean;
  engines?: { node?: string };
}

/** Our package and all that it brings, from the lock file: place → entry. */
export function ours(folder: string): Record<string, Locked> {
  const { packages } = JSON.parse(readFileSync(path.join(folder, "package-lock.json"), "utf8")) as {
    packages: Record<string, Locked>;
  };
  const found: Record<string, Locked> = {};
  const visit = (place: string) => {
    const entry = packages[place];
    if (!entry || found[place]) return;
    found[place] = entry;
    for (const name of Object.keys(entry.dependencies ?? {})) visit(resolve(packages, place, name));
  };
  visit("node_modules/moleculer-reliable-emit");
  return found;
}

/** As Node.js looks for it: in the package's own node_modules, then upwards. */
function resolve(packages: Record<string, Locked>, from: string, name: string): string {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    const place = `${at ? `${at}/` : ""}node_modules/${name}`;
    if (packages[place] || !at) return place;
    if (!at.includes("/node_modules/")) return `node_modules/${name}`;
  }
}

/**
 * A folder of this test inside an installed project: what is in it finds the project's packages. Removed at the end of
 * the test.
 */
export function corner(project: string, files: Record<string, string> = {}): string {
  const folder = mkdtempSync(path.join(project, "test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  return folder;
}

export const FIXTURES = path.resolve("test/package/fixtures");

/** `of`: a folder of theirs. */
export function copyFixtures(folder: string, extension: string, of = ""): void {
  for (const name of readdirSync(path.join(FIXTURES, of)))
    if (name.endsWith(extension)) cpSync(path.join(FIXTURES, of, name), path.join(folder, name));
}
