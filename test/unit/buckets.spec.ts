import { describe, expect, it } from "vitest";
import { BUCKETS, bucketOf } from "../../src/message/message";
import { bucketsOf } from "../../src/sweeper/sweeper";

describe.each([1, 2, 3, 4, 7, 63, 64])("%i partitions", partitions => {
  it("divide all buckets, each into exactly one, evenly", () => {
    const parts = Array.from({ length: partitions }, (_, partition) => bucketsOf([partition], partitions));
    expect(parts.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: BUCKETS }, (_, bucket) => bucket));
    const sizes = parts.map(part => part.length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  });
});

it("several held partitions are their union, none is nothing", () => {
  expect(bucketsOf([0, 3], 4)).toEqual(
    Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter(bucket => bucket % 4 === 0 || bucket % 4 === 3)
  );
  expect(bucketsOf([], 4)).toEqual([]);
});

it("ids spread over all buckets, and an id never moves", () => {
  const counts = new Map<number, number>();
  for (let i = 0; i < 6400; i++) counts.set(bucketOf(`order-${i}`), (counts.get(bucketOf(`order-${i}`)) ?? 0) + 1);
  expect(counts.size).toBe(BUCKETS);
  expect(Math.max(...counts.values())).toBeLessThan(200);
  // FNV-1a, published test vectors; other languages compute the same.
  expect(["", "a", "foobar"].map(bucketOf)).toEqual([0x811c9dc5 % 64, 0xe40c292c % 64, 0xbf9cf968 % 64]);
});
