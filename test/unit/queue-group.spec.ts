import { describe, expect, it } from "vitest";
import { queueGroup, queueTargetOf, queueTargetOfMessage, settledByConfirm } from "../../src/message/queue-target";

describe("the pseudo group of a queue that is not ours", () => {
  it.each(["mail.send", "a,b", "a/b:c#d", "50%", "%2C", "ü €", "x".repeat(255), "queue/x"])(
    "leads back to the queue: %s",
    queue => {
      for (const settle of ["confirm", "receipt"] as const) {
        const group = queueGroup({ queue, settle });
        expect(queueTargetOf(group)).toEqual({ queue, settle });
        expect(settledByConfirm(group)).toBe(settle === "confirm");
        // Groups travel in lists, and patterns stand behind a colon.
        expect(group.slice(group.indexOf("/") + 1)).not.toMatch(/[,:/#]/);
      }
    }
  );

  it.each(["stock", "queue", "queue-confirm", "stock:order.*", "queue:order/*"])(
    "no group of a service is taken for one: %s",
    group => {
      expect(queueTargetOf(group)).toBeUndefined();
      expect(settledByConfirm(group)).toBe(false);
    }
  );

  it("a message goes there when it is its only group", () => {
    expect(queueTargetOfMessage({ groups: ["queue/a"] })).toEqual({ queue: "a", settle: "receipt", group: "queue/a" });
    expect([
      queueTargetOfMessage({}),
      queueTargetOfMessage({ groups: ["stock"] }),
      queueTargetOfMessage({ groups: ["queue/a", "stock"] })
    ]).toEqual([undefined, undefined, undefined]);
  });
});
