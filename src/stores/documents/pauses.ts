import type { Pause } from "../../message/records";
import type { PauseKey, PauseStore } from "../store";
import { type Database, type Doc, EPOCH } from "./collection";
import { isInstant, isMap, isText } from "./row-check";

const PREFIX = "pause:";

/** No subscription has such an id: those begin with a bracket. */
function pauseId({ group, pattern = null }: { group: string; pattern?: string | null }): string {
  return PREFIX + JSON.stringify([group, pattern]);
}

export function isPause({ _id }: Doc): boolean {
  return _id.startsWith(PREFIX);
}

/**
 * The key is in the id, so a damaged row still names what is paused: it must not be taken for a group that runs. Its
 * fields are not called as those of a subscription, which is in the same collection.
 */
export function toPause({ _id, pausedAt, pausedBy, pauseNote, resumed, unmarked }: Doc): Pause[] {
  let key: unknown;
  try {
    key = JSON.parse(_id.slice(PREFIX.length));
  } catch {
    return [];
  }
  const [group, pattern] = Array.isArray(key) ? (key as unknown[]) : [];
  if (!isText(group)) return [];
  const pause: Pause = {
    group,
    ...(isText(pattern) && { pattern }),
    at: isInstant(pausedAt) ? pausedAt : EPOCH,
    by: isText(pausedBy) ? pausedBy : "unknown",
    note: isText(pauseNote) ? pauseNote : ""
  };
  if (!isMap(resumed)) return [pause];
  const { at, by, note } = resumed;
  return [
    {
      ...pause,
      resumed: {
        at: isInstant(at) ? at : EPOCH,
        by: isText(by) ? by : "unknown",
        ...(isText(note) && { note })
      },
      unmarked: unmarked === true
    }
  ];
}

/** In the collection of the subscriptions, which all nodes read every few seconds: so what is paused costs no read. */
export class DocumentPauses implements PauseStore {
  constructor(private readonly db: Database) {}

  async pause({ group, pattern, at, by, note }: Pause): Promise<boolean> {
    const { subscriptions } = this.db.collections;
    const _id = pauseId({ group, ...(pattern !== undefined && { pattern }) });
    const fields = { pausedAt: at, pausedBy: by, pauseNote: note };
    const [inserted] = await subscriptions.insert([{ _id, ...fields }]);
    if (inserted) return true;
    const again = await subscriptions.update(
      { _id, resumed: { $exists: true } },
      { $set: fields, $unset: { resumed: true, unmarked: true } }
    );
    if (again) return true;
    const [row] = await subscriptions.find({ _id, ...fields, resumed: { $exists: false } }, { fields: ["_id"] });
    return row !== undefined;
  }

  async resume(key: PauseKey, resumed: NonNullable<Pause["resumed"]>): Promise<boolean> {
    const { at, by, note } = resumed;
    const $set = { resumed: { at, by, ...(note !== undefined && { note }) } };
    const filter = { _id: pauseId(key), resumed: { $exists: false } };
    return (await this.db.collections.subscriptions.update(filter, { $set })) > 0;
  }

  async unmarked(key: PauseKey, resumedAt: Date): Promise<boolean> {
    const filter = { _id: pauseId(key), "resumed.at": resumedAt };
    return (await this.db.collections.subscriptions.update(filter, { $set: { unmarked: true } })) > 0;
  }

  async find(key: PauseKey): Promise<Pause | undefined> {
    const [row] = await this.db.collections.subscriptions.find({ _id: pauseId(key) });
    return row && toPause(row)[0];
  }

  async list(): Promise<Pause[]> {
    return (await this.db.collections.subscriptions.find({})).filter(isPause).flatMap(toPause);
  }

  prune(before: Date): Promise<number> {
    return this.db.collections.subscriptions.remove({ unmarked: true, "resumed.at": { $gte: EPOCH, $lt: before } });
  }
}
