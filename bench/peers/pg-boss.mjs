// pg-boss: one queue, fetched by two workers, by the batch without a pause as long as there is more, woken by NOTIFY.
import pg from "pg";
import { PgBoss } from "pg-boss";
import { counter, pipelined } from "../lib/load.mjs";
import { payloadOf, until } from "../lib/world.mjs";

const QUEUE = "event";
/** One fetches while the other handles: of 1, 2 and 4 the quickest here. */
const WORKERS = 2;

/** `recorded`: the state `completed` in the table of jobs. A handler's end comes before it. */
export async function recorded({ postgres, bytes, concurrency, inFlight, count, warm }) {
  const boss = new PgBoss({ connectionString: postgres, max: 20, useListenNotify: true });
  boss.on("error", error => console.error(error));
  await boss.start();
  await boss.createQueue(QUEUE, { notify: true });
  const handled = counter();
  const how = {
    batchSize: inFlight / WORKERS,
    localConcurrency: WORKERS,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5
  };
  await boss.work(QUEUE, how, async jobs => handled.add(jobs.length));
  const client = new pg.Client(postgres);
  await client.connect();
  const completed = async () => {
    const { rows } = await client.query("select count(*)::int as n from pgboss.job where state = 'completed'");
    return rows[0].n;
  };
  const reached = async count => {
    await handled.reach(count);
    await until(async () => (await completed()) >= count, `${count} completed jobs`);
  };
  const payload = payloadOf(bytes);
  const send = () => boss.send(QUEUE, payload);
  const result = await pipelined({ count, warm, concurrency, send, reached });
  await client.end();
  await boss.stop({ graceful: true, timeout: 5000 });
  return result;
}
