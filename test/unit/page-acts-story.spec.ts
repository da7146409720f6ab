import { describe, expect, it } from "vitest";
import type { AuditRow, GroupRow, Story } from "../../src/dashboard/page/acts/shapes";
import {
  attemptsText,
  keysOf,
  outlookOf,
  retryTargets,
  traceLink,
  whoWasFaster
} from "../../src/dashboard/page/acts/story";

const row = (group: string, state: GroupRow["state"], more: Partial<GroupRow> = {}): GroupRow => ({
  ...{ group, state, attempts: 1, ageMs: 1000, ...more }
});

const message = (
  status: string,
  groups: GroupRow[],
  whats: string[] = []
): Pick<Story, "status" | "groups" | "timeline"> => ({
  ...{ status, groups, timeline: whats.map(what => ({ at: "2026-11-26T03:00:00.000Z", what })) }
});

describe("a retry", () => {
  it("names the groups it goes to again, and why not to the others", () => {
    const groups = [row("stock", "handled", { ageMs: 5000 }), row("crm", "waiting"), row("mail", "failed")];
    expect(retryTargets({ groups }, ageMs => `${ageMs} ms ago`)).toEqual({
      again: "mail",
      not: "stock (handled 5000 ms ago), crm (under way)"
    });
  });

  it("says whoever subscribes where no group is known", () => {
    expect(retryTargets({ groups: [row("*", "failed")] }, String).again).toBe("whoever subscribes");
  });
});

describe("what becomes of a message that was sent again", () => {
  it("waits, and tells why or of the last failure", () => {
    expect(outlookOf(message("pending", [row("mail", "waiting")]))).toEqual({
      tone: "busy",
      text: "waiting for mail …"
    });
    const failedOnce = row("mail", "waiting", { reason: "handler: MailError: 535" });
    expect(outlookOf(message("pending", [failedOnce])).text).toBe("waiting for mail … (handler: MailError: 535)");
  });

  it("is handled, by whom and where", () => {
    const groups = [row("stock", "handled", { ageMs: 9000 }), row("mail", "handled", { ageMs: 10 })];
    const whats = [
      "handled by stock on node mail-1 in 3 ms (attempt 1)",
      "handled by mail on node mail-2 in 12 ms (attempt 3)"
    ];
    expect(outlookOf(message("consumed", groups, whats))).toEqual({
      tone: "good",
      text: "handled by mail on mail-2 in 12 ms (attempt 3)"
    });
  });

  it("does not take one group for another whose name begins alike", () => {
    const whats = ["handled by mail on node a in 1 ms", "handled by mailer on node b in 2 ms"];
    expect(outlookOf(message("consumed", [row("mail", "handled")], whats)).text).toBe("handled by mail on a in 1 ms");
  });

  it("has failed again", () => {
    const groups = [row("mail", "failed", { reason: "handler: MailError: 535" })];
    expect(outlookOf(message("dead", groups))).toEqual({
      tone: "bad",
      text: "failed again in mail: handler: MailError: 535"
    });
  });

  it("was resolved by somebody", () => {
    expect(outlookOf(message("resolved", [row("mail", "resolved")])).tone).toBe("good");
  });
});

describe("who was faster", () => {
  const audit = (more: Partial<AuditRow>): AuditRow => ({
    ...{ auditID: "a", at: "2026-11-26T03:00:00.000Z", act: "retry", by: "ops2", state: "done", ...more }
  });
  const now = Date.parse("2026-11-26T03:00:08.000Z");

  it("is told with the time", () => {
    const audits = [audit({ id: "o2", by: "emma" }), audit({ id: "o1" }), audit({ id: "o1", by: "before" })];
    expect(whoWasFaster("o1", audits, now)).toBe("ops2 has retried it 8 s ago");
  });

  it("is nobody, where no act on this one is among the records", () => {
    expect(whoWasFaster("o3", [audit({ id: "o1" }), audit({ id: "o3", act: "sweep" })], now)).toBeUndefined();
  });
});

describe("attempts", () => {
  it("may be more than the limit after a retry", () => {
    expect(attemptsText({ attempts: 2, maxAttempts: 3 })).toBe("2 of 3");
    expect(attemptsText({ attempts: 5, maxAttempts: 3 })).toBe("5 (at most 3 after each retry)");
  });
});

describe("a link to a trace", () => {
  it("is filled with what is asked for, encoded", () => {
    const template = "https://traces.example/?id={requestID}&m={id}";
    expect(traceLink(template, { id: "a/b", requestID: "r 1" })).toBe("https://traces.example/?id=r%201&m=a%2Fb");
  });

  it("is none where something is missing, or where it would run a script", () => {
    expect(traceLink("https://x/{requestID}", { id: "a" })).toBeUndefined();
    expect(traceLink("https://x/{nobody}", { id: "a" })).toBeUndefined();
    expect(traceLink("javascript:alert({id})", { id: "1" })).toBeUndefined();
    expect(traceLink(undefined, { id: "a" })).toBeUndefined();
  });
});

describe("keys of a row", () => {
  it("are told apart", () => {
    expect(keysOf("order=42, customer=c-7")).toEqual(["order=42", "customer=c-7"]);
    expect(keysOf("name=Doe, Jane, order=1")).toEqual(["name=Doe, Jane", "order=1"]);
    expect(keysOf(undefined)).toEqual([]);
  });
});
