"use strict";

/** What was delivered, and by which node. */
const delivered = [];
const server = { up: true };

async function deliver(to, nodeID) {
  if (!server.up) throw new Error("the mail server is down");
  delivered.push({ to, nodeID });
}

module.exports = { deliver, delivered, server };
