import { describe } from "vitest";
import { bulkHolds } from "../bulk/check";

const one = [{ id: "m1" }];
const two = [
  { id: "m1", died: 2 },
  { id: "m2", died: 1 }
];
const three = [{ id: "m1" }, { id: "m2" }, { id: "m3", died: 1 }];
const workers = 2;

for (const act of ["retry", "resolve", "discard"] as const)
  describe(`a bulk ${act}`, () => {
    bulkHolds(act, [
      ["two workers, pages of two: both die", { crash: 2 }, { letters: three, size: 2, workers }],
      ["two workers, pages of two: a claim ends too early", { slow: 1 }, { letters: three, size: 2, workers }],
      ["two workers: a claim ends too early, one dies", { slow: 1, crash: 1 }, { letters: one, workers, begun: true }],
      ["two workers: stopped, a claim ends too early", { stop: 1, slow: 1 }, { letters: two, workers, begun: true }],
      ["two workers: paused, a claim ends too early", { pause: 1, slow: 1 }, { letters: one, workers }],
      ["paused, stopped, a worker dies", { pause: 1, stop: 1, crash: 1 }, { letters: two }],
      [
        "a human retries one, it dies anew, a worker dies",
        { retry: 1, die: 1, crash: 1 },
        { letters: two, begun: true }
      ],
      [
        "two workers: a human retries it, a claim ends too early",
        { retry: 1, die: 1, slow: 1 },
        { letters: one, workers, begun: true }
      ],
      ["two workers: a human resolves it, one dies", { resolve: 1, crash: 1 }, { letters: one, workers }],
      ["two workers: a human discards it, one dies", { discard: 1, crash: 1 }, { letters: one, workers }],
      [
        "two workers: a human discards it, a claim ends too early",
        { discard: 1, slow: 1 },
        { letters: one, workers, begun: true }
      ],
      ["answers of the store are lost", { lose: 2, stop: 1 }, { letters: two, begun: true }]
    ]);
  });

describe("a bulk retry that stops by itself", () => {
  bulkHolds("retry", [
    ["two workers, a claim ends too early", { tooMany: 1, slow: 1 }, { letters: two, workers }],
    ["two workers, stopped, one dies", { tooMany: 1, stop: 1, crash: 1 }, { letters: one, workers }]
  ]);
});
