import type { Context } from "moleculer";

interface Handled {
  key: string;
  n: number;
  turn: number;
}

/** What handlers of messages with order keys have done, in order; and whether two of a key ran at once. */
export class OrderJournal {
  readonly handled: Handled[] = [];
  readonly overlaps: string[] = [];
  readonly #running = new Map<string, number>();

  /** A handler, around `work`. What that rejects with is a failure. */
  readonly handler =
    (work: (n: number, ctx: Context) => unknown = () => undefined) =>
    // Moleculer 0.14 goes by the argument's name.
    async (ctx: Context<{ n: number }>): Promise<void> => {
      const { order } = (ctx.locals as { reliable: { order: { key: string; turn: number } } }).reliable;
      const { n } = ctx.params;
      const before = this.#running.get(order.key);
      if (before !== undefined) this.overlaps.push(`${order.key}: ${n} beside ${before}`);
      this.#running.set(order.key, n);
      try {
        await work(n, ctx);
        this.handled.push({ ...order, n });
      } finally {
        this.#running.delete(order.key);
      }
    };

  of(key: string): number[] {
    return this.handled.filter(one => one.key === key).map(({ n }) => n);
  }

  turnsOf(key: string): number[] {
    return this.handled.filter(one => one.key === key).map(({ turn }) => turn);
  }
}
