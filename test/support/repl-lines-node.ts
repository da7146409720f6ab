import { createRequire } from "node:module";
import { type BrokerOptions, ServiceBroker } from "moleculer";
import { reliableReplCommands } from "../../src";
import { tell } from "./parent";

/**
 * A node with a REPL that prints which actions are called, and calls none. KEEPS_VALUES: commander forgets the values of a
 * line as little as the one (9) that moleculer-repl 0.7 brings.
 */
async function main(): Promise<void> {
  if (process.env["KEEPS_VALUES"]) {
    const { Command } = createRequire(require.resolve("moleculer-repl"))("commander");
    if (typeof Command.prototype._prepareForParse !== "function")
      throw new Error("commander has nothing to switch off");
    Command.prototype._prepareForParse = () => undefined;
  }
  const options = {
    logger: false,
    replCommands: reliableReplCommands,
    replOptions: { customCommands: reliableReplCommands }
  };
  const broker = new ServiceBroker(options as unknown as BrokerOptions);
  broker.call = (async (action: string, params: unknown) => {
    console.log(`called: ${action} ${JSON.stringify(params)}`);
    return { matched: 3, perSecond: 100, text: "So many.", rows: [], total: 0, id: "b", endedAt: "now", changes: [] };
  }) as never;
  await broker.start();
  broker.repl();
  await tell("ready");
}

void main();
