import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import {
  controlExchange,
  delayQueueDeclaration,
  eventsExchange,
  queueDeclaration
} from "../../src/couriers/amqp/topology";
import { systemQueue } from "../../src/couriers/courier";
import { HEADER } from "../../src/wire/envelope";
import { eventQueue, pauseMarker, systemQueues } from "../../src/wire/names";
import { faults, names, type SchemaName } from "../support/schemas";

const text = readFileSync("docs/wire-contract.md", "utf8");
const rows = text
  .split("\n")
  .filter(line => line.startsWith("| "))
  .map(line => line.slice(2, -2).split(" | "));
const codes = (cell = "") => [...cell.matchAll(/`([^`]*)`/g)].map(([, code]) => code as string);
/** `<ns>` of the document is our prefix, in the namespace `shop`. */
const named = (name: string) => name.replace("shop.reliable", "<ns>");

it("every example in the contract is as its schema says", () => {
  const examples = [...text.matchAll(/```json (\w+)\n([\s\S]*?)```/g)].map(
    ([, name, json]) => [name, json] as [SchemaName, string]
  );
  expect(examples.map(([name]) => name).toSorted()).toEqual([
    ...["announcement", "announcement", "checks", "control", "control", "envelope", "plan", "receipt"]
  ]);
  for (const [name, json] of examples) expect(faults(name, JSON.parse(json)), name).toEqual([]);
});

it("the contract names every header, and the arguments of every queue, as the code has them", () => {
  const headers = rows
    .filter(([cell]) => /^`(x-reliable-|traceparent|tracestate)/.test(cell as string))
    .flatMap(([cell]) => codes(cell));
  expect(headers).toEqual(expect.arrayContaining(Object.values(HEADER)));
  const argumentsOf = (what: string) => {
    const cells = rows.find(([first, , third]) => first?.startsWith(what) && third?.includes("x-queue-type"));
    return Object.fromEntries(codes(cells?.[2]).map(pair => pair.split(": ").map(part => part.replaceAll('"', ""))));
  };
  const asText = (args: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(args).map(([key, value]) => [key, named(String(value))]));
  const system = systemQueues("shop");
  expect(argumentsOf("queue of a group")).toEqual(
    asText(queueDeclaration({ name: "q", deadLetterTo: system.parked }).arguments)
  );
  expect(argumentsOf("system queues")).toEqual(asText(queueDeclaration(systemQueue(system.checks, system)).arguments));
  expect(argumentsOf("checks on their way")).toEqual({
    ...asText(delayQueueDeclaration(system.checks, 30_000).arguments),
    "x-message-ttl": "<ms>"
  });
  expect(argumentsOf("markers of")).toEqual(asText(queueDeclaration({ name: "m" }).arguments));
  expect(codes(rows.find(([first]) => first === "system queues")?.[1]).toSorted()).toEqual(
    Object.values(system).map(named).toSorted()
  );
  for (const name of [
    eventsExchange("shop").name,
    controlExchange("shop").name,
    pauseMarker("shop", "<group>"),
    pauseMarker("shop", "<group>", "<pattern>"),
    delayQueueDeclaration(system.checks, 30_000).name.replace("30000", "<ms>"),
    eventQueue("shop", "<group>", "<pattern>")
  ])
    expect(text).toContain(`\`${named(name)}\``);
});

it("the contract links to every schema, and only to what is there", () => {
  const links = [...text.matchAll(/\]\((\.\.\/|schemas\/)([^)#]*)/g)].map(
    ([, folder, rest]) => `docs/${folder}${rest}`
  );
  for (const link of links) expect(existsSync(link), link).toBe(true);
  for (const name of names) expect(links).toContain(`docs/schemas/${name}.schema.json`);
  const anchors = [...text.matchAll(/\]\(#([^)]*)\)/g)].map(([, anchor]) => anchor);
  const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replace(/[^\w ]/g, "")
      .replaceAll(" ", "-")
  );
  for (const anchor of anchors) expect(headings).toContain(anchor);
});
