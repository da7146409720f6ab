import { describe, expect, it } from "vitest";
import {
  durationOf,
  faultOf,
  filterOf,
  filterParams,
  hasCause,
  isNumber,
  wordsOf
} from "../../src/dashboard/page/acts/filter";
import {
  faster,
  howLong,
  isUnderWay,
  progressText,
  slower,
  summaryOf,
  underWay,
  worked
} from "../../src/dashboard/page/acts/progress";
import type { BulkStory } from "../../src/dashboard/page/acts/shapes";

describe("a filter in the address", () => {
  it.each([
    ["1h", 3_600_000],
    ["30min", 1_800_000],
    ["15m", 900_000],
    ["2d", 172_800_000],
    ["1.5h", 5_400_000],
    ["90 s", 90_000],
    ["5000", 5000]
  ])("takes the time %s", (text, ms) => {
    expect(durationOf(text)).toBe(ms);
  });

  it.each(["", "h", "1 week", "-1h", "1e9d", "99999999999d"])("refuses %j as a time", text => {
    expect(durationOf(text)).toBeUndefined();
  });

  it("is what the calls take", () => {
    expect(filterOf({ since: "1h", olderThan: "5min", event: " order.created ", group: "", cursor: "x" })).toEqual({
      youngerThanMs: 3_600_000,
      olderThanMs: 300_000,
      event: "order.created"
    });
  });

  it("tells what cannot be read, and leaves it out", () => {
    const params = { since: "yesterday", group: "mail" };
    expect(faultOf(params)).toContain("yesterday");
    expect(filterOf(params)).toEqual({ group: "mail" });
    expect(faultOf({ since: "1h" })).toBeUndefined();
  });

  it("is kept apart from what else stands in the address", () => {
    expect(filterParams({ since: "1h", group: "mail", dialog: "retry", on: "x", cursor: "c", bulk: "b" })).toEqual({
      since: "1h",
      group: "mail"
    });
  });

  it("has a cause with an error alone", () => {
    expect(hasCause({ group: "mail", event: "e" })).toBe(false);
    expect(hasCause({ errorType: "EAUTH" })).toBe(true);
  });

  it("is told in words", () => {
    expect(
      wordsOf({ status: "dead", youngerThanMs: 3_600_000, group: "mail", errorType: "EAUTH", errorText: "no <b>" })
    ).toEqual(["dead", "last 1 h", "failed in group mail", "error EAUTH", "“no <b>”"]);
  });
});

describe("a number that is typed", () => {
  it.each(["4311", "4,311", " 4.311 ", "4 311", "4’311"])("%j is 4,311", typed => {
    expect(isNumber(typed, 4311)).toBe(true);
  });

  it.each(["", "431", "43111", "4311 messages", "-4311", "all"])("%j is not", typed => {
    expect(isNumber(typed, 4311)).toBe(false);
  });
});

const story = (more: Partial<BulkStory> = {}): BulkStory => ({
  ...{ bulkID: "b-1", act: "retry", filter: "status=dead group=mail", state: "running", by: "ops@night" },
  ...{ startedAt: "2026-11-26T03:12:00.000Z", matched: 4312, done: 3120, overtaken: 0, refused: 0 },
  ...{ perSecond: 10, changes: [], ...more }
});

describe("the progress of a bulk act", () => {
  it("is told in one line", () => {
    const text = progressText(story({ handled: 3050, failedAgain: 12, pace: 9.8, left: 1192, leftMs: 119_200 }));
    expect(text).toBe(
      "3,120 of 4,312 sent again · 3,050 handled · 12 dead again · 58 under way · 10/s · 1 min 59 s left"
    );
  });

  it("says the state in place of the rate when it does not run", () => {
    expect(progressText(story({ state: "paused", handled: 3120 }))).toBe(
      "3,120 of 4,312 sent again · 3,120 handled · paused"
    );
  });

  it("says what was left, and why", () => {
    const text = progressText(story({ act: "discard", state: "done", done: 4000, overtaken: 300, refused: 12 }));
    expect(text).toBe("4,000 of 4,312 deleted · 300 overtaken · 12 refused · done");
  });

  it("names no whole that nobody has counted, once it is beyond it", () => {
    expect(progressText(story({ matched: 100_000, capped: true, done: 5 }))).toContain("5 of 100,000+ sent again");
    expect(progressText(story({ matched: 100_000, capped: true, done: 120_000 }))).toContain("120,000 sent again");
  });

  it("does not know how many are under way where outcomes were not counted to the end", () => {
    expect(underWay(story({ handled: 100, moreOutcomes: true }))).toBeUndefined();
    expect(underWay(story({ handled: 3121 }))).toBe(0);
  });

  it("is never more than the whole", () => {
    expect(worked(story({ done: 4310, overtaken: 5 }))).toBe(4312);
  });

  it.each([
    ["running", true],
    ["paused", true],
    ["stopping", true],
    ["stopped", false],
    ["done", false],
    ["failed", false]
  ])("%s is under way: %s", (state, expected) => {
    expect(isUnderWay({ state })).toBe(expected);
  });

  it("goes slower and faster within the limits", () => {
    expect([slower(10), slower(1), slower(3)]).toEqual([5, 1, 1]);
    expect([faster(10), faster(1), faster(8000), faster(10_000)]).toEqual([20, 2, 10_000, 10_000]);
  });

  it("takes about so long", () => {
    expect(howLong(4311, 10)).toBe("7 min 11 s");
    expect(howLong(1, 100)).toBe("1 s");
  });
});

describe("the summary for the handover", () => {
  it("has what was done, by whom, why and what came of it", () => {
    const done = story({
      ...{ state: "done", done: 4312, handled: 4309, failedAgain: 3, endedAt: "2026-11-26T03:20:00.000Z" },
      ...{ note: "SMTP password renewed", changes: ["2026-11-26T03:14:00.000Z pause by emma"] }
    });
    expect(summaryOf(done, "https://ops.example/reliable/#/acts?bulk=b-1").split("\n")).toEqual([
      "retry by ops@night: 4,312 of 4,312 sent again · 4,309 handled · 3 dead again · done",
      "what: status=dead group=mail",
      "from 2026-11-26T03:12:00.000Z to 2026-11-26T03:20:00.000Z",
      "why: SMTP password renewed",
      "2026-11-26T03:14:00.000Z pause by emma",
      "https://ops.example/reliable/#/acts?bulk=b-1"
    ]);
  });

  it("says that it is still under way, and why it has stopped", () => {
    const text = summaryOf(story({ why: "too many are dead again" }), "x");
    expect(text).toContain("still under way");
    expect(text).toContain("ended: too many are dead again");
  });
});
