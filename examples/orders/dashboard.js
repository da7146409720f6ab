"use strict";

const { parseArgs } = require("node:util");
const { ReliableDashboardService } = require("moleculer-reliable-emit/dashboard");

/** `--dashboard`, and `--port` of it: the operators' page of the demo; undefined without. */
function dashboardOf(args) {
  const { values } = parseArgs({
    args,
    options: { dashboard: { type: "boolean" }, port: { type: "string", default: "3400" } }
  });
  if (!values.dashboard) return undefined;
  const port = Number(values.port);
  return {
    address: `http://127.0.0.1:${port}/`,
    // Nobody but this machine reaches it, and there is nothing in it but the demo.
    service: ReliableDashboardService({ port, access: "anonymous", badge: { text: "demo", tone: "blue" } })
  };
}

/** Ctrl-C, once. Moleculer's own end of the process would come before ours. */
function interrupted() {
  return new Promise(resolve => {
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => resolve("interrupted"));
  });
}

module.exports = { dashboardOf, interrupted };
