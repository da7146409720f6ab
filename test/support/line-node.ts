import { Errors, ServiceBroker } from "moleculer";
import { ReliableError } from "../../src/errors";
import { onTold, tell } from "./parent";

async function main(): Promise<void> {
  // Typed sources are compiled to `require`; this one stays an `import`.
  const imported = (
    await (new Function("return import('moleculer')")() as Promise<{ ServiceBroker: typeof ServiceBroker }>)
  ).ServiceBroker;
  onTold("end", code => process.exit(Number(code)));
  await tell("line", {
    required: ServiceBroker.MOLECULER_VERSION,
    imported: imported.MOLECULER_VERSION,
    ours: ReliableError.prototype instanceof Errors.MoleculerError
  });
}

void main();
