import { ReliableError } from "../errors";
import type { NodeOptions } from "../options/options";
import { brokerNameFault, namespaceFault } from "../wire/names";

/**
 * Throws RELIABLE_BAD_OPTION for a Moleculer namespace that RabbitMQ would refuse in our names, each time anew. Each
 * store looks for itself, since it knows what it makes of the namespace.
 */
export function checkNamespace(namespace: string, { amqp }: NodeOptions): void {
  const fault = namespaceFault(namespace) ?? (amqp ? brokerNameFault(namespace) : undefined);
  if (fault)
    throw new ReliableError("RELIABLE_BAD_OPTION", `Moleculer's option 'namespace' ${fault}.`, {
      option: "namespace"
    });
}
