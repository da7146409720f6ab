import { describe } from "vitest";
import { bulkHolds } from "./bulk/check";

const one = [{ id: "m1" }];
const two = [
  { id: "m1", died: 2 },
  { id: "m2", died: 1 }
];
/** A page ends between two that died at the same instant. */
const three = [{ id: "m1" }, { id: "m2" }, { id: "m3", died: 1 }];
const waiting = { id: "waiting", waiting: "for another" } as const;
const begun = true;

describe("a bulk retry", () => {
  bulkHolds("retry", [
    ["pages that end in an instant", {}, { letters: three }],
    ["a worker dies, and the next one too", { crash: 2 }, { letters: two, size: 2, begun }],
    ["its begin dies, or an answer of the store is lost", { crash: 1, lose: 1 }, { letters: one }],
    ["two workers: the claim ends while its holder is at it", { slow: 1 }, { letters: one, workers: 2, begun }],
    ["messages die anew, and are handled", { die: 2, handle: 1 }, { letters: two }],
    ["a clock is behind: what dies anew seems to have died before", { die: 2 }, { letters: two, clockBehind: true }],
    ["paused, resumed, stopped", { pause: 1, stop: 1 }, { letters: two, begun }],
    ["stopped, and a worker dies", { stop: 1, crash: 1 }, { letters: one, begun }],
    ["stops by itself, or is stopped, and a worker dies", { tooMany: 1, stop: 1, crash: 1 }, { letters: one, begun }],
    ["a human retries it, and it dies anew", { retry: 1, die: 1 }, { letters: one }],
    ["a human resolves it, and a worker dies", { resolve: 1, crash: 1 }, { letters: one, begun }],
    [
      "what does not match, and what the store refuses",
      { die: 1 },
      {
        letters: [
          { id: "alive", alive: true },
          { id: "elsewhere", elsewhere: true },
          { id: "refused", refuses: true },
          waiting
        ],
        begun
      }
    ],
    [
      "a sweep has it in its hands, and a worker dies",
      { crash: 1 },
      { letters: [{ id: "m1", waiting: "in a sweep" }], begun }
    ]
  ]);
});

describe("a bulk resolve", () => {
  bulkHolds("resolve", [
    ["a worker dies", { crash: 1 }, { letters: two, begun }],
    ["a human retries it, and it dies anew", { retry: 1, die: 1 }, { letters: one }],
    ["others wait for it: paused, and a worker dies", { pause: 1, crash: 1 }, { letters: [waiting], begun }]
  ]);
});

describe("a bulk discard", () => {
  bulkHolds("discard", [
    ["a worker dies, and the next one too", { crash: 2 }, { letters: two, begun }],
    ["others wait for one", {}, { letters: [...three, waiting], size: 2 }],
    ["a human resolves it, and a worker dies", { resolve: 1, crash: 1 }, { letters: one, begun }],
    ["a human discards it, and a worker dies", { discard: 1, crash: 1 }, { letters: one, begun }]
  ]);
});
