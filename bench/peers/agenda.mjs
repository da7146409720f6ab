// Agenda on its backend for MongoDB, which looks for jobs each `processEvery`. (Told of each job in the process itself,
// by its in-memory notifications, it was slower here: each is then claimed one by one.)
import { MongoBackend } from "@agendajs/mongo-backend";
import { Agenda } from "agenda";
import { MongoClient } from "mongodb";
import { counter, pipelined } from "../lib/load.mjs";
import { DATABASE, payloadOf, until, urls } from "../lib/world.mjs";

const JOB = "event";

/** `recorded`: `lastFinishedAt` is in the store. A handler's end comes before it. */
export async function recorded({ namespace, bytes, concurrency, inFlight, count, warm }) {
  const client = await new MongoClient(urls.mongo, { writeConcern: { w: "majority", j: true } }).connect();
  const mongo = client.db(DATABASE);
  const collection = `${namespace}.jobs`;
  const agenda = new Agenda({
    backend: new MongoBackend({ mongo, collection }),
    processEvery: 100,
    maxConcurrency: inFlight,
    defaultConcurrency: inFlight
  });
  let ended = false;
  // It may be looking for jobs once more when it is stopped.
  agenda.on("error", error => ended || console.error(error));
  const handled = counter();
  agenda.define(JOB, async () => handled.add(), { concurrency: inFlight });
  await agenda.start();
  const finished = () => mongo.collection(collection).countDocuments({ lastFinishedAt: { $ne: null } });
  const reached = async count => {
    await handled.reach(count);
    await until(async () => (await finished()) >= count, `${count} finished jobs`);
  };
  const payload = payloadOf(bytes);
  const send = () => agenda.now(JOB, payload);
  const result = await pipelined({ count, warm, concurrency, send, reached });
  ended = true;
  await agenda.stop();
  await client.close();
  return result;
}
