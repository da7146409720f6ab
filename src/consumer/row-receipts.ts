import { Batcher } from "../async/batcher";
import { reasonOf } from "../errors";
import type { Logger } from "../platform/logger";
import type { Envelope } from "../wire/envelope";
import type { ReceiptItem } from "../wire/receipt";
import type { OwnRows } from "./consumer-parts";

/** Per store command. */
const MAX_BATCH = 500;

/**
 * Receipts `handled` of messages whose rows lie in this node's store: written there, without a message to a tracker. The
 * receipt is then the mark by which a copy is known, and no inbox row is needed. A copy is answered by a message all the
 * same: whoever has sent it may know another store under this one's id, as after a restore.
 *
 *   process dies before the write, or in it   unacked: the broker delivers it again
 *   … after the write, before the ack         delivered again, recognised by the row, answered without the handler
 *   the store does not answer, or refuses     the receipt goes as a message, as from any other node
 *   there is no such row (discarded)          the same, and a tracker parks it
 */
export class RowReceipts {
  readonly #batcher: Batcher<ReceiptItem, boolean>;

  constructor(
    private readonly rows: OwnRows,
    private readonly callbackReceipts: string,
    private readonly group: string,
    private readonly logger: Logger
  ) {
    this.#batcher = new Batcher({
      maxItems: MAX_BATCH,
      write: async items => {
        const unknown = await rows.handled(group, items);
        return items.map(({ id }) => !unknown.has(id));
      }
    });
  }

  /** Its row lies here. Of strategy `callback` it will: where the first that hears of it makes it. */
  has({ receipt, store }: Envelope): boolean {
    const { id } = this.rows;
    return id !== undefined && (receipt === this.callbackReceipts || store === id);
  }

  /** False = the receipt has to go as a message. */
  async write(item: ReceiptItem): Promise<boolean> {
    try {
      return await this.#batcher.add(item);
    } catch (error) {
      this.logger.debug(
        `Reliable: the receipt of group ${this.group} for ${item.id} goes as a message, since its row could not be written: ${reasonOf(error)}`
      );
      return false;
    }
  }
}
