import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, it } from "vitest";
import { METRICS } from "../../src/telemetry/metrics";

interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

interface Rules {
  groups: { name: string; rules: Rule[] }[];
}

/** The reader of YAML that GitHub's own reader of workflows uses: an error throws. */
const yaml = createRequire(`${process.cwd()}/node_modules/@actions/workflow-parser/package.json`)("yaml") as {
  parse(text: string, options: { strict: true; uniqueKeys: true }): unknown;
};

const text = readFileSync("examples/grafana/alerts.yml", "utf8");
const { groups } = yaml.parse(text, { strict: true, uniqueKeys: true }) as Rules;
const rules = groups.flatMap(group => group.rules);

it("has what Prometheus wants of a rule file, and nothing else", () => {
  expect(Object.keys(yaml.parse(text, { strict: true, uniqueKeys: true }) as object)).toEqual(["groups"]);
  for (const group of groups) expect(Object.keys(group).toSorted()).toEqual(["name", "rules"]);
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  for (const rule of rules) {
    expect(Object.keys(rule).filter(key => !["alert", "expr", "for", "labels", "annotations"].includes(key))).toEqual(
      []
    );
    expect(rule.alert).toMatch(/^[A-Z]\w+$/);
    expect(rule.for ?? "1m").toMatch(/^\d+(s|m|h)$/);
    expect(rule.labels).toEqual({ severity: expect.stringMatching(/^(critical|warning)$/) });
    const { summary, description, dashboard_url, ...more } = rule.annotations;
    expect(more).toEqual({});
    for (const each of [summary, description]) expect(each).toEqual(expect.stringMatching(/\S/));
    expect(dashboard_url).toMatch(/^https:\/\/gateway\.example\/reliable\/#\/[a-z]+(\?[\w=&]+)?$/);
    for (const [open, close] of ["()", "[]", "{}"].map(pair => [...pair] as [string, string]))
      expect(rule.expr.split(open).length, rule.expr).toBe(rule.expr.split(close).length);
  }
});

it("every metric, and every label that an alert goes by or shows, is there", () => {
  const known = new Map(
    Object.entries(METRICS).map(([name, metric]) => [`moleculer_reliable_${name.replaceAll(".", "_")}`, metric])
  );
  for (const { alert, expr, annotations } of rules) {
    const used = expr.match(/\bmoleculer_\w+/g) ?? [];
    expect(used.length, alert).toBeGreaterThan(0);
    expect(used.filter(name => !known.has(name))).toEqual([]);
    const by = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list]) => (list as string).split(/,\s*/));
    const labels = ["namespace", "nodeID", ...used.flatMap(name => known.get(name)?.labels ?? [])];
    expect(
      by.filter(label => !labels.includes(label)),
      alert
    ).toEqual([]);
    // What an aggregation has taken away cannot be shown.
    const shown = [
      ...Object.values(annotations)
        .join(" ")
        .matchAll(/\$labels\.(\w+)/g)
    ].map(([, label]) => label);
    expect(
      shown.filter(label => !by.includes(label as string)),
      alert
    ).toEqual([]);
    // A counter is looked at by how much it has grown, and a gauge as it is.
    for (const name of used) {
      const grows = new RegExp(`(increase|rate)\\(${name}\\b`).test(expr);
      expect(grows, `${alert}: ${name}`).toBe(known.get(name)?.type === "counter");
    }
  }
});

it("the first count of a counter alerts, too: before it the counter is not there, and `increase` does not see it", () => {
  for (const { alert, expr } of rules) {
    // What does not happen has no first count.
    if (expr.endsWith("== 0")) continue;
    for (const [, name, window] of expr.matchAll(/increase\((\w+)\[(\w+)\]\)/g))
      expect(expr.replace(/\s+/g, " "), alert).toContain(
        `(${name} unless ${name} offset ${window}) or increase(${name}[${window}])`
      );
  }
});
