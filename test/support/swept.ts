import type { ServiceBroker } from "moleculer";
import { until } from "./brokers";
import { rowOf } from "./runtime";
import { makeDue } from "./strategies";

/** As often as attempts could be burnt: what waits is due at once, and a sweep, of whatever node, has looked at it. */
export async function sweptAgainAndAgain(broker: ServiceBroker, ids: string[]): Promise<void> {
  // One whose confirm is not on record would be sent once more, rightly.
  for (const id of ids)
    await until(
      () => rowOf(broker, id),
      ({ publishedAt }) => publishedAt !== undefined
    );
  for (let n = 0; n < 5; n++) {
    for (const id of ids) {
      // A sweep of the node's own may have it.
      await until(() =>
        makeDue(broker, id).then(
          () => true,
          () => false
        )
      );
      const due = new Date();
      await broker.call("reliable.sweep", {});
      await until(
        () => rowOf(broker, id),
        ({ dueAt, claim }) => claim === undefined && dueAt !== undefined && dueAt > due
      );
    }
  }
}
