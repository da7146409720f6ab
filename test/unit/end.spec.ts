import { expect, it, vi } from "vitest";
import { newEnd } from "../../src/async/end";
import { systemClock } from "../../src/platform/clock";

it("any number of waits end with their part, and Node sees no leak in them", async () => {
  const warned = vi.fn();
  process.on("warning", warned);
  try {
    const end = newEnd();
    const waits = Promise.all(Array.from({ length: 100 }, () => systemClock.sleep(60_000, end.signal)));
    end.abort();
    await waits;
    await new Promise(resolve => setImmediate(resolve));
    expect(warned).not.toHaveBeenCalled();
  } finally {
    process.off("warning", warned);
  }
});
