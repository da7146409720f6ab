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
