import type { Service } from "moleculer";
import type { Consumer } from "../src/consumer/consumer";
import type { Runtime } from "../src/runtime/runtime";

/** What a service's hooks know of its consumers. */
interface Consuming {
  runtime: Runtime;
  consumers: Consumer[];
}

/**
 * Starts them one by one. A stop of the service in the middle of it ends that without an error: it had not failed.
 * Rejects as `Runtime.consume`.
 */
export async function startAll(
  service: Service,
  { runtime, consumers }: Consuming,
  starts: (() => Promise<Consumer>)[]
): Promise<void> {
  for (const start of starts) {
    if (!runtime.services.serves(service)) return;
    try {
      consumers.push(await start());
    } catch (error) {
      if (runtime.services.serves(service)) throw error;
    }
  }
  if (!runtime.services.serves(service))
    await Promise.all(consumers.splice(0).map(consumer => runtime.stopConsumer(consumer)));
}

/** Side by side, each until the deadline that the service's stop has begun. */
export async function stopAll(service: Service, { runtime, consumers }: Consuming): Promise<void> {
  const deadline = runtime.leave(service);
  await Promise.all(consumers.splice(0).map(consumer => runtime.stopConsumer(consumer, deadline)));
}
