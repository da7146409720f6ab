import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { MongoClient } from "mongodb";
import { encodeMessage } from "../../../src/stores/documents/codec";
import type { Doc } from "../../../src/stores/documents/collection";
import { prefixOf } from "../../../src/wire/names";
import { deadOf } from "../../support/messages";
import { Cluster, DATABASE } from "../cluster";
import { monotonic } from "../journal";
import type { Fault, Run } from "../run";

const MESSAGES = 20_000;
const PER_SECOND = 2000;
const KILLS = 2;
const PAGE = 2000;
/** Far above what it takes, claims that have to run out included. */
const GIVEN_UP_MS = 180_000;

interface BulkDoc {
  _id: string;
  state: string;
  done: number;
  lost: number;
  claim?: string;
}

/** Dead messages, as if their group had failed long ago; the journal says that they were promised. */
async function insertDead(run: Run, messages: ReturnType<typeof collectionOf>): Promise<void> {
  const lines: string[] = [];
  for (let from = 0; from < MESSAGES; from += PAGE) {
    const rows = Array.from({ length: Math.min(PAGE, MESSAGES - from) }, (_, i) => {
      const id = `bulk-${from + i}`;
      lines.push(`A ${id} ${monotonic()} order.kept outbox 0`, `P ${id} ${monotonic()}`);
      const created = new Date(Date.now() - 3_600_000 + from + i);
      const fields = { _id: id, event: "order.kept", producer: "bulk", failed: ["on"], spent: { on: 3 } };
      return encodeMessage(
        deadOf({ ...fields, createdAt: created, at: created, body: Buffer.from(JSON.stringify({ id })) })
      );
    });
    await messages.insertMany(rows);
  }
  const journal = path.join(mkdtempSync(path.join(tmpdir(), "bulk-")), "bulk.journal");
  writeFileSync(journal, `${lines.join("\n")}\n`);
  run.cluster.journals.push(journal);
}

const collectionOf = (client: MongoClient, namespace: string, name: string) =>
  client.db(DATABASE).collection<Doc>(`${prefixOf(namespace)}.${name}`);

/** What is wrong with what the bulk act has done. */
async function wrongOf(client: MongoClient, namespace: string, id: string): Promise<string[]> {
  const messages = collectionOf(client, namespace, "messages");
  const once = { producer: "bulk", notes: { $size: 1 }, "notes.0.act": "retry", "notes.0.bulk": id };
  const acted = await messages.countDocuments(once);
  const audits = await collectionOf(client, namespace, "audit").find({ act: "retry" }).toArray();
  const [audit] = audits as unknown as { _id: string; state: string; counts: { done: number; lost: number } }[];
  return [
    ...(acted === MESSAGES ? [] : [`${acted} of ${MESSAGES} were retried once`]),
    ...(audits.length === 1 && audit?._id === id ? [] : [`${audits.length} audit records`]),
    ...(audit?.state === "done" && audit.counts.done === MESSAGES && audit.counts.lost === 0
      ? []
      : [`its record says ${JSON.stringify(audit)}`])
  ];
}

const killed: Fault = {
  name: "kill-bulk",
  title: `bulk retry of ${MESSAGES.toLocaleString("en")} messages; SIGKILL of the node that works at it, ${KILLS} times`,
  async inject(run) {
    const client = await new MongoClient(run.servers.mongo).connect();
    try {
      await insertDead(run, collectionOf(client, run.namespace, "messages"));
      const asked = Cluster.NAMES.callback[0] as string;
      const what = { act: "retry", producer: "bulk", perSecond: PER_SECOND };
      const { id } = await run.cluster.call<{ id: string }>(asked, "reliable.bulk", what);
      const bulks = client.db(DATABASE).collection<BulkDoc>(`${prefixOf(run.namespace)}.bulks`);
      const marks = Array.from({ length: KILLS }, (_, i) => ((i + run.int(20, 80) / 100) / KILLS) * MESSAGES);
      for (const from = performance.now(); performance.now() - from < GIVEN_UP_MS; await run.sleep(50)) {
        const bulk = await bulks.findOne({ _id: id });
        run.progress(`bulk ${bulk?.state}, ${bulk?.done} of ${MESSAGES}`);
        if (bulk?.state !== "running") break;
        const [node] = (bulk.claim ?? "").split("#");
        if (node && bulk.done >= (marks[0] ?? Infinity) && run.cluster.isUp(node)) {
          marks.shift();
          await run.bounce(node);
        }
      }
      const wrong = await wrongOf(client, run.namespace, id);
      if (marks.length) wrong.push(`${marks.length} of ${KILLS} kills did not happen`);
      if (wrong.length) throw new Error(`The bulk act: ${wrong.join("; ")}.`);
      return undefined;
    } finally {
      await client.close();
    }
  }
};

export const bulkFaults: Fault[] = [killed];
