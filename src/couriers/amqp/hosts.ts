import { createHash } from "node:crypto";
import type { BrokerAddress } from "./addresses";

/**
 * The hosts of one cluster, as one node goes through them. Nodes begin at different ones, by their nodeID, so that
 * connections, and with them the leaders of queues, are spread. All connections of a node go together.
 */
export class Hosts {
  /** Where this node begins, and where it goes back to. */
  readonly home: BrokerAddress;
  #at: number;

  constructor(
    private readonly all: readonly BrokerAddress[],
    nodeID: string
  ) {
    this.#at = createHash("sha256").update(nodeID).digest().readUInt32BE() % all.length;
    this.home = this.current;
  }

  get current(): BrokerAddress {
    return this.all[this.#at] as BrokerAddress;
  }

  get several(): boolean {
    return this.all.length > 1;
  }

  /** All of them once, the current one first. */
  inTurn(): BrokerAddress[] {
    return [...this.all.slice(this.#at), ...this.all.slice(0, this.#at)];
  }

  /** To the next one, but if another connection of this node has gone there already. */
  leave(host: BrokerAddress): void {
    if (host === this.current) this.#at = (this.#at + 1) % this.all.length;
  }

  goHome(): void {
    this.#at = this.all.indexOf(this.home);
  }
}
