import type { ReadParams, ReadsOfOne, Wire } from "../kit/api";
import { type Poll, type PollOptions, usePoll } from "../kit/poll";

/** All of one, again and again: what these reads answer when they are given an id. */
export function usePollOne<N extends keyof ReadsOfOne>(
  name: N,
  id: string,
  options?: PollOptions
): Poll<Wire<ReadsOfOne[N]>> {
  return usePoll(name, { id } as unknown as ReadParams<N>, options) as unknown as Poll<Wire<ReadsOfOne[N]>>;
}
