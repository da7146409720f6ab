// BullMQ: one queue, one worker with as many jobs at a time; finished jobs are kept, as by default.
import { Queue, Worker } from "bullmq";
import { counter, pipelined } from "../lib/load.mjs";
import { payloadOf } from "../lib/world.mjs";

/** `recorded`: the worker says "completed" when Redis has answered, which it does after its fsync. */
export async function recorded({ namespace, redis, bytes, concurrency, inFlight, count, warm }) {
  const { hostname: host, port } = new URL(redis);
  const connection = { host, port: Number(port), maxRetriesPerRequest: null };
  const queue = new Queue(namespace, { connection });
  const worker = new Worker(namespace, async () => undefined, { connection, concurrency: inFlight });
  const completed = counter();
  worker.on("completed", () => completed.add());
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
  const payload = payloadOf(bytes);
  const send = () => queue.add("event", payload);
  const result = await pipelined({ count, warm, concurrency, send, reached: completed.reach });
  const { completed: kept } = await queue.getJobCounts("completed");
  if (kept !== warm + count) throw new Error(`BullMQ keeps ${kept} completed jobs of ${warm + count}.`);
  await worker.close();
  await queue.close();
  return result;
}
