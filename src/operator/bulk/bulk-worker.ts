import { type Deadline, withTimeout } from "../../async/deadline";
import { ReliableError, reasonOf } from "../../errors";
import type { Call } from "../../platform/call";
import type { Timer } from "../../platform/clock";
import { newId } from "../../platform/ids";
import { nodeOfOwner } from "../cluster-nodes";
import { BULK_CLAIM_MS, BulkRun, type BulkRunParts } from "./bulk-run";

/** The parts of the sweeper that it goes by. */
interface Sweeping {
  readonly sweeping: boolean;
  readonly mode: string;
  readonly leases:
    | { on(event: "changed", listener: () => void): () => void; holders(): Promise<(string | null)[]> }
    | undefined;
}

export interface BulkWorkerParts extends BulkRunParts {
  nodeID: string;
  sweeper: Sweeping;
  call: Call;
  /** The nodes with the service `reliable`. */
  registry: { nodes(): { nodeID: string; available: boolean }[] };
}

/** Each has its own rate; the next one waits until one of them has ended. */
const AT_ONCE = 10;

/**
 * For what the node that sweeps was not told of: one that Redis does not answer works beside it, and so does one that
 * cannot reach it. So rare a read that an idle cluster does not feel it, on one node, or on each where there is no lease.
 */
const LOOK_MS = 300_000;

/** Tells another node; it answers at once. */
const TELL_MS = 3000;

/** Of those that are to be told one may have died, and not be known as dead for half a minute. */
const TRIES = 3;

/**
 * Works at bulk acts, on the node that sweeps. It does not poll: it looks when it is told, when the node begins to sweep
 * or finds its store again, and at the end of the claim of another node; besides every 5 minutes. The claim in the bulk
 * act's document is the right to work at it, not the lease: two nodes that look at once are harmless, and one that has
 * lost the lease finishes what it has claimed.
 *
 * Whoever claims one tells one other node to look, which so knows when the claim ends. If the node that works is killed,
 * that one goes on then, and need not wait for the end of the lease, which is longer.
 */
export class BulkWorker {
  readonly #working = new Map<string, Promise<void>>();
  readonly #end = new AbortController();
  #unsubscribe: (() => void)[] = [];
  #timer: Timer | undefined;
  #again: Timer | undefined;
  #againAt = Infinity;
  /** It was to look while the store was away. */
  #owed = false;

  constructor(private readonly parts: BulkWorkerParts) {}

  start(): void {
    const { sweeper, store, clock, events } = this.parts;
    const sweeping = () => void (sweeper.sweeping && this.#lookNow());
    this.#unsubscribe = [
      store.onReady(() => (this.#owed ? this.#lookNow() : sweeping())),
      events.on("toDo", look => look === "bulks" && sweeping())
    ];
    if (sweeper.leases) this.#unsubscribe.push(sweeper.leases.on("changed", sweeping));
    else sweeping();
    this.#timer = clock.every(LOOK_MS, sweeping);
  }

  /** Pages under way are finished, and claims given back, so that another node need not wait for their end. */
  async stop(deadline: Deadline): Promise<void> {
    this.#end.abort();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#timer?.stop();
    this.#again?.stop();
    await withTimeout(Promise.all(this.#working.values()), deadline.left, this.parts.clock);
  }

  /** See `Working`. A node that cannot tell the one that sweeps does it itself. */
  async wake(): Promise<void> {
    if (this.parts.sweeper.sweeping || !(await this.#toldOthers())) this.#lookNow();
  }

  async #toldOthers(): Promise<boolean> {
    const { sweeper, call, logger } = this.parts;
    try {
      const owners = (await sweeper.leases?.holders()) ?? [];
      const nodes = new Set(owners.flatMap(owner => (owner ? nodeOfOwner(owner) : [])));
      for (const nodeID of nodes) await call("reliable.bulkLook", {}, { nodeID, timeout: TELL_MS });
      return nodes.size > 0;
    } catch (error) {
      logger.debug(`Reliable: the node that sweeps could not be told of a bulk act: ${reasonOf(error)}`);
      return false;
    }
  }

  /** Another node looks, finds the claim, and looks again when it ends. */
  async #tellAnother(): Promise<void> {
    const { registry, nodeID: own, call, logger } = this.parts;
    const others = registry.nodes().flatMap(({ nodeID, available }) => (available && nodeID !== own ? nodeID : []));
    for (let tries = 0; others.length && tries < TRIES; tries++) {
      const [nodeID] = others.splice(Math.floor(Math.random() * others.length), 1);
      try {
        await call("reliable.bulkLook", {}, { nodeID: nodeID as string, timeout: TELL_MS, retries: 0 });
        return;
      } catch (error) {
        logger.debug(`Reliable: node ${nodeID} could not be told of a bulk act: ${reasonOf(error)}`);
      }
    }
  }

  /** By another node. Rejects with RELIABLE_UNSUPPORTED on one that does not work, so that it asks the next. */
  asked(): Promise<void> {
    if (this.#timer) return this.look();
    const text = `Node ${this.parts.nodeID} does not work at bulk acts.`;
    return Promise.reject(new ReliableError("RELIABLE_UNSUPPORTED", text));
  }

  #lookNow(): void {
    this.look().catch(error => {
      this.parts.logger.debug(`Reliable: could not look for bulk acts: ${reasonOf(error)}`);
      this.#lookIn(BULK_CLAIM_MS);
    });
  }

  /** Claims what is to be done, and begins to work at it. */
  async look(): Promise<void> {
    const { store, nodeID } = this.parts;
    if (this.#end.signal.aborted) return;
    this.#owed = !store.ready;
    if (this.#owed) return;
    const now = store.now();
    const until = new Date(now.getTime() + BULK_CLAIM_MS);
    const most = AT_ONCE - this.#working.size;
    const { claimed, nextAt } = await store.bulks.claim({ claim: `${nodeID}#${newId()}`, now, until, most });
    for (const bulk of claimed) {
      const work = this.#work(new BulkRun(this.parts, bulk)).finally(() => this.#working.delete(bulk._id));
      this.#working.set(bulk._id, work);
    }
    if (claimed.length) void this.#tellAnother();
    if (nextAt) this.#lookIn(nextAt.getTime() - now.getTime());
  }

  async #work(run: BulkRun): Promise<void> {
    try {
      await run.run(this.#end.signal);
      // Another one may have waited for its end; or another node has it, and may die.
      this.#lookIn(0);
    } catch (error) {
      // Its claim runs out, and whoever looks then goes on.
      this.parts.events.emit("error", error, "bulk");
      this.#lookIn(BULK_CLAIM_MS);
    }
  }

  /** One that is set for sooner stays: it sets the next. */
  #lookIn(ms: number): void {
    const { clock } = this.parts;
    const at = clock.monotonic() + Math.max(0, ms);
    if (this.#end.signal.aborted || this.#againAt <= at) return;
    this.#again?.stop();
    this.#againAt = at;
    this.#again = clock.after(Math.max(0, ms), () => {
      this.#againAt = Infinity;
      this.#lookNow();
    });
  }
}
