import { reasonOf, sanitizeError } from "../src/errors";
import type { Runtime } from "../src/runtime/runtime";
import type { Broker } from "./broker";

/**
 * What happens to messages, as Moleculer events: always `$reliable.…` on this node, and with the option
 * `lifecycleEvents` as `reliable.…` to the others. Ids and names only, never payloads. They are ordinary events: one
 * that gets lost is lost.
 */
export function forwardLifecycle(broker: Broker, runtime: Runtime): void {
  const logger = broker.getLogger("reliable");
  const send = (how: "broadcastLocal" | "broadcast" | "emit", name: string, data: object) => {
    const failed = (error: unknown) => logger.debug(`Reliable: '${name}' could not be emitted: ${reasonOf(error)}`);
    try {
      Promise.resolve(broker[how](name, data)).catch(failed);
    } catch (error) {
      failed(error);
    }
  };
  const tell = (what: string, data: object) => {
    send("broadcastLocal", `$reliable.${what}`, data);
    const { lifecycleEvents } = runtime.options;
    if (lifecycleEvents) send(lifecycleEvents, `reliable.${what}`, data);
  };
  const { events } = runtime;
  events.on("consumed", ids => tell("consumed", { ids }));
  events.on("dead", messages => {
    for (const message of messages) tell("dead", message);
  });
  events.on("acted", (act, ids, by) => tell(act, { ids, by }));
  events.on("bulkStopped", bulk => tell("bulkStopped", bulk));
  events.on("paused", (what, by, note) => tell("paused", { ...what, by, note }));
  events.on("resumed", (what, by, note) => tell("resumed", { ...what, by, ...(note !== undefined && { note }) }));
  events.on("breaker", news => tell("breaker", news));
  // The shape of Moleculer's own $broker.error events, so that a listener on "$**.error" sees them all. An Error stays
  // on its node.
  events.on("error", (thrown, module) =>
    send("broadcastLocal", "$reliable.error", {
      error: sanitizeError(thrown),
      module,
      type: `reliable${module[0]?.toUpperCase()}${module.slice(1)}Error`
    })
  );
}
