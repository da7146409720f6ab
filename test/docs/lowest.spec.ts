import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { aliases } from "../support/aliases.cjs";
import { guide, rowsOf } from "../support/pages";

interface Manifest {
  version: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
  engines: { node: string };
}

const manifest = (folder: string) => JSON.parse(readFileSync(`${folder}/package.json`, "utf8")) as Manifest;
const { dependencies, devDependencies, peerDependencies, engines } = manifest(".");
const ranges: Record<string, string> = { ...dependencies, moleculer: peerDependencies["moleculer"] as string };
/** Ranges are written lowest first. */
const floorOf = (range: string) => /^\^(\d+\.\d+\.\d+)( \|\| \^\d+\.\d+\.\d+)*$/.exec(range)?.[1];

it("the projects 'lowest' run on the lowest version that package.json admits of every dependency", () => {
  const lowest = aliases({ MOLECULER_LINE: "0.14", DEPENDENCIES: "lowest" });
  expect(Object.keys(lowest).toSorted()).toEqual(Object.keys(ranges).toSorted());
  const meant = Object.fromEntries(
    Object.entries(lowest).map(([name, alias]) => [
      name,
      [devDependencies[alias], manifest(`node_modules/${alias}`).version]
    ])
  );
  expect(meant).toEqual(
    Object.fromEntries(
      Object.entries(ranges).map(([name, range]) => [name, [`npm:${name}@${floorOf(range)}`, floorOf(range)]])
    )
  );
});

it("the guide states the lowest versions that package.json does", () => {
  const rows = rowsOf("package | lowest", guide("typescript-and-versions")).map(([name, lowest]) => [name, lowest]);
  const floors = Object.entries(ranges).map(([name, range]) => [name, floorOf(range)]);
  expect(Object.fromEntries(rows)).toEqual(
    Object.fromEntries([["Node.js", engines.node.replace(">=", "")], ...floors])
  );
});
