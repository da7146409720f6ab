"use strict";

const http = require("node:http");
const { Journal } = require("./journal");

/**
 * Stands for somebody else's mail server: out of service at first, and it does not know one of the domains until that
 * is put right.
 */
class MailServer {
  constructor(folder) {
    this.sent = new Journal(folder, "mail");
    this.domains = new Set(["example.test"]);
    this.up = false;
    this.server = http.createServer(async (request, response) => {
      const body = [];
      for await (const chunk of request) body.push(chunk);
      const [status, text] = this.take(JSON.parse(Buffer.concat(body).toString()));
      response.writeHead(status).end(text);
    });
  }

  take({ id, to }) {
    if (!this.up) return [503, "out of service"];
    const domain = to.split("@")[1];
    if (!this.domains.has(domain)) return [550, `no such mail domain: ${domain}`];
    this.sent.add(id);
    return [200, "accepted"];
  }

  async listen() {
    await new Promise(resolve => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

module.exports = { MailServer };
