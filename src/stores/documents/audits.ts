import type { Note } from "../../message/message";
import { consumerGroup, namesGroup } from "../../message/pattern";
import type { AuditEnd, AuditRecord, Discarded } from "../../message/records";
import type { AuditStore } from "../store";
import type { Listed } from "../store-records";
import type { Database } from "./collection";
import { LOOKED_AT, totalOf } from "./counts";
import { mendedAudit, mendedDiscarded } from "./damaged";

/** A group is forgotten a few times in its life. */
const MAX_FORGETS = 1000;

/** A script that repeats what always fails must not make a record grow without end. */
const MAX_EARLIER = 20;

/** Who did what, when and why; and what was discarded. */
export class DocumentAudits implements AuditStore {
  constructor(private readonly db: Database) {}

  async begin(record: AuditRecord): Promise<void> {
    await this.db.collections.audit.insert([{ ...record }]);
  }

  async beginForget(record: AuditRecord, since: Date): Promise<string> {
    const { audit } = this.db.collections;
    const { group, pattern = { $exists: false }, at, by, note, onBehalfOf } = record;
    const [open] = (await audit.find(
      { act: "forget", group, pattern, state: { $in: ["begun", "failed"] }, at: { $gte: since } },
      { sort: { at: -1 }, limit: 1 }
    )) as unknown as AuditRecord[];
    if (open && (open.earlier ?? []).length < MAX_EARLIER) {
      const before = { at: open.at, by: open.by, ...(open.note !== undefined && { note: open.note }) };
      const goesOn = await audit.update(
        { _id: open._id, at: open.at, state: open.state },
        {
          $set: { at, by, note, state: "begun", ...(onBehalfOf !== undefined && { onBehalfOf }) },
          $unset: { endedAt: true, error: true, ...(onBehalfOf === undefined && { onBehalfOf: true }) },
          $push: { earlier: before }
        }
      );
      if (goesOn) return open._id;
    }
    await this.begin(record);
    return record._id;
  }

  async end(id: string, end: AuditEnd): Promise<boolean> {
    return (await this.db.collections.audit.update({ _id: String(id), state: "begun" }, { $set: { ...end } })) > 0;
  }

  async list(offset: number, limit: number): Promise<Listed<AuditRecord>> {
    const { audit } = this.db.collections;
    const [rows, count] = await Promise.all([
      audit.find({}, { sort: { at: -1, _id: -1 }, skip: offset, limit, without: ["ids"] }),
      audit.count({}, LOOKED_AT)
    ]);
    return { rows: rows.map(mendedAudit) as unknown as AuditRecord[], ...totalOf(count, rows.length, offset, limit) };
  }

  async find(id: string): Promise<AuditRecord | undefined> {
    const [record] = await this.db.collections.audit.find({ _id: String(id) });
    return record && (mendedAudit(record) as unknown as AuditRecord);
  }

  async discarded(ids: string[]): Promise<Discarded[]> {
    if (!ids.length) return [];
    const docs = await this.db.collections.discarded.find({ id: { $in: ids.map(String) } }, { sort: { at: -1 } });
    return docs.map(mendedDiscarded) as unknown as Discarded[];
  }

  async forgotten(labels: string[]): Promise<Map<string, Note>> {
    const groups = labels.flatMap(label => [label, label.split(":", 1)[0] as string]);
    const acts = (await this.db.collections.audit.find(
      { act: "forget", group: { $in: groups } },
      { sort: { at: -1 }, limit: MAX_FORGETS }
    )) as unknown as AuditRecord[];
    const of = (label: string) =>
      acts.find(({ group = "", pattern }) =>
        pattern === undefined ? namesGroup(group, label) : consumerGroup(group, pattern) === label
      );
    return new Map(
      labels.flatMap(label => {
        const act = of(label);
        if (!act) return [];
        const { at, by, group, pattern, note } = act;
        const story: Note = { at, by, act: "forget", ...(group && { group }) };
        return [[label, { ...story, ...(note && { note }), ...(pattern && { pattern }) }]];
      })
    );
  }
}
