import type { TestContext } from "vitest";

export const UNSUPPORTED = "the MongoDB server cannot: ";

/**
 * The only legal way to skip a test: the MongoDB server that was found lacks a feature. The closing summary names each
 * one.
 */
export function skipUnsupported(context: TestContext, feature: string): never {
  return context.skip(UNSUPPORTED + feature);
}
