import { describe } from "vitest";
import { holds } from "../check";

describe("outbox", () => {
  holds("outbox", [
    ["two sweepers: a publish or its confirm is lost, a process dies", { lose: 1, crash: 1 }, { sweepers: 2 }],
    [
      "two sweepers in a backlog, where records are written a page later: a process dies",
      { crash: 1, fail: 1 },
      { sweepers: 2, pageSize: 1 }
    ],
    ["two groups: handlers fail", { fail: 2 }, { groups: 2 }],
    ["two groups that nobody knew: a process dies", { crash: 1 }, { groups: 2, unknownGroups: true, atOnce: 2 }]
  ]);
});
