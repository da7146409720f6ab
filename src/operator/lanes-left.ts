import type { ListedMessage } from "../message/message";
import type { LaneEnd } from "../stores/lane-store";

/** Of messages that a human has taken out of their line: who stands behind them can get his turn now. */
export function lanesLeft(messages: readonly Pick<ListedMessage, "order" | "failed">[]): LaneEnd[] {
  return messages.flatMap(({ order, failed }) => (order ? failed.map(group => ({ key: order.key, group })) : []));
}
