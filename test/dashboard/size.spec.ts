import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { expect, it } from "vitest";

const ASSETS = "dist/src/dashboard/assets";
const files = () =>
  readdirSync(ASSETS, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => path.join(entry.parentPath, entry.name));

it("the page is at most 60 kB gzip, all of it", () => {
  const sizes = Object.fromEntries(files().map(file => [file, gzipSync(readFileSync(file), { level: 9 }).length]));
  const all = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  expect(all, JSON.stringify(sizes)).toBeGreaterThan(1000);
  expect(all, JSON.stringify(sizes)).toBeLessThanOrEqual(60_000);
});

it("it names no other host, and evaluates no text", () => {
  for (const file of files()) {
    const text = readFileSync(file, "utf8");
    // Namespaces of SVG and MathML are names, not addresses that anybody asks.
    const hosts = text.match(/(https?:|["'`(])\/\/[a-z0-9-]+\.[a-z0-9.-]+/gi) ?? [];
    expect([file, hosts.filter(host => !/\/\/www\.w3\.org$/.test(host))]).toEqual([file, []]);
    expect([file, /\beval\(|new Function\b|\bFunction\(/.test(text)]).toEqual([file, false]);
    expect([file, /<script>|<style|\son\w+="/.test(text) && file.endsWith(".html")]).toEqual([file, false]);
  }
});
