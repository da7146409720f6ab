import { expect, it } from "vitest";
import { toStory } from "../../src/operator/views";
import { messageOf } from "../support/messages";

it("a message's history begins with its emit, also when the confirm's clock is behind the producer's", () => {
  const message = messageOf({ createdAt: new Date(1000), publishedAt: new Date(990) });
  expect(toStory(message, 2000).timeline.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^stored by/),
    "published: confirmed and routed"
  ]);
});

it("a failure that the store's clock dates before the emit comes after the publish that it is about", () => {
  const at = (ms: number) => new Date(ms);
  const failure = {
    at: at(995),
    cause: "handler" as const,
    group: "stock",
    attempt: 1,
    error: { name: "E", message: "no" }
  };
  const message = messageOf({ strategy: "callback", createdAt: at(1000), publishedAt: at(1000), failures: [failure] });
  expect(toStory(message, 2000).timeline.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^emitted by/),
    "published by its producer, which was told the outcome",
    expect.stringMatching(/^attempt 1 failed in stock/)
  ]);
});
