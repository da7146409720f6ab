import type { MongoClient } from "mongodb";
import { ReliableError, reasonOf } from "../../errors";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { answerWithin } from "./collection";

/** What `config.collections` of a sharded cluster says of a collection. */
interface Sharded {
  _id: string;
  key?: Record<string, unknown>;
  dropped?: boolean;
}

/**
 * With another shard key than `_id` each shard has its own unique index on `_id`: one id may be there twice, and the
 * inbox, barrier rows and idempotent emits pass what they are there to stop. Rejects with RELIABLE_SHARD_KEY.
 */
export async function checkShardKeys(
  client: MongoClient,
  database: string,
  collections: string[],
  { logger, clock }: { logger: Logger; clock: Clock }
): Promise<void> {
  const names = collections.map(name => `${database}.${name}`);
  const config = client.db("config").collection<Sharded>("collections");
  let sharded: Sharded[];
  try {
    const found = config.find({ _id: { $in: names } }, { maxTimeMS: 15_000, projection: { key: 1, dropped: 1 } });
    sharded = await answerWithin("find in config.collections", found.toArray(), clock);
  } catch (thrown) {
    logger.warn(
      `The shard keys could not be looked at (${reasonOf(thrown)}). Each must be \`_id\` or hashed \`_id\`; see with: ${commandFor(names)}`
    );
    return;
  }
  const wrong = sharded.filter(({ key, dropped }) => !dropped && key && !isById(key));
  if (!wrong.length) return;
  const found = wrong.map(({ _id, key }) => `${_id} by ${JSON.stringify(key)}`).join(", ");
  throw new ReliableError(
    "RELIABLE_SHARD_KEY",
    `Sharded by a key that does not keep ids unique: ${found}. Reshard by hashed \`_id\`, for each: ${reshard((wrong[0] as Sharded)._id)}`,
    { store: "mongodb", option: "mongo", collections: wrong.map(({ _id }) => _id) }
  );
}

function isById(key: Record<string, unknown>): boolean {
  const fields = Object.keys(key);
  return fields.length === 1 && fields[0] === "_id";
}

function commandFor(names: string[]): string {
  return `db.getSiblingDB("config").collections.find({ _id: { $in: ${JSON.stringify(names)} } }, { key: 1 })`;
}

function reshard(name: string): string {
  return `sh.reshardCollection(${JSON.stringify(name)}, { _id: "hashed" })`;
}
