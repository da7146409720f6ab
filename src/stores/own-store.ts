import type { Store } from "./store";

/** The id of this node's store, once the store has told it. */
export class OwnStore {
  id: string | undefined;
  readonly #deaf: () => void;

  constructor(private readonly store: Pick<Store, "identify" | "onReady">) {
    this.#deaf = store.onReady(() => void this.learn());
  }

  /** Never rejects: what needs the id does without it until then. */
  async learn(): Promise<void> {
    if (this.id !== undefined) return;
    this.id = await this.store.identify().catch(() => undefined);
    if (this.id !== undefined) this.#deaf();
  }
}
