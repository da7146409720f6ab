"use strict";

const fs = require("node:fs");
const path = require("node:path");

/**
 * The "database" of a service of this demo: a file with a line per order, so that what was done outlives a `kill -9`.
 */
class Journal {
  constructor(folder, name) {
    fs.mkdirSync(folder, { recursive: true });
    this.file = path.join(folder, `${name}.txt`);
  }

  add(id) {
    fs.appendFileSync(this.file, `${id}\n`);
  }

  /** Every line: an id that was done twice is there twice. */
  lines() {
    return fs.existsSync(this.file) ? fs.readFileSync(this.file, "utf8").split("\n").filter(Boolean) : [];
  }
}

module.exports = { Journal };
