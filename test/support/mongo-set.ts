import { type Document, ObjectId } from "mongodb";
import { type Command, type MongoProxy, type MongoProxyOptions, mongoProxy, type Play } from "./mongo-proxy";

const READS = ["find", "aggregate", "count", "distinct", "listIndexes", "getMore"];

/** A replica set of two members that change roles: two proxies in front of one server. */
export interface MongoSet {
  readonly url: string;
  /** What the primary is made to answer, until this is taken back. */
  play: MongoProxyOptions["play"];
  /** Commands that reached a member which was not the primary, or was no more when it had done them. */
  readonly refused: number;
  /** The primary steps down; the other member takes its place when both have been seen as secondaries. */
  elect(): Promise<void>;
  close(): Promise<void>;
}

export async function mongoSet(target: string): Promise<MongoSet> {
  const members: MongoProxy[] = [];
  let primary: number | undefined = 0;
  let elections = 1;
  let refused = 0;
  let seen: { members: Set<number>; all(): void } | undefined;

  const hello = (member: number) => (reply: Document, me: string) => {
    const isPrimary = primary === member;
    seen?.members.add(member);
    if (seen?.members.size === 2) seen.all();
    return {
      ...reply,
      hosts: members.map(({ address }) => address),
      me,
      primary: primary === undefined ? undefined : members[primary]?.address,
      isWritablePrimary: isPrimary,
      ismaster: isPrimary,
      secondary: !isPrimary,
      setVersion: 1,
      electionId: isPrimary ? new ObjectId(String(elections).padStart(24, "0")) : undefined
    };
  };
  const play =
    (member: number) =>
    (command: Command): Play => {
      if (primary === member) {
        const played = set.play?.(command);
        if (played) return played;
        return {
          change: reply => (primary === member ? reply : refuse(command, 11602, "InterruptedDueToReplStateChange"))
        };
      }
      const [code, name] = READS.includes(command.name)
        ? [13435, "NotPrimaryNoSecondaryOk"]
        : [10107, "NotWritablePrimary"];
      return { reply: refuse(command, code as number, name as string) };
    };
  const refuse = ({ name, body }: Command, code: number, codeName: string): Document => {
    refused++;
    const inTransaction = body["autocommit"] === false && name !== "commitTransaction";
    const label = inTransaction ? "TransientTransactionError" : "RetryableWriteError";
    const labelled = inTransaction || body["txnNumber"] !== undefined;
    return { ok: 0, code, codeName, errmsg: `injected: ${codeName}`, ...(labelled && { errorLabels: [label] }) };
  };

  for (const member of [0, 1]) members.push(await mongoProxy({ target, play: play(member), hello: hello(member) }));
  const [first] = members as [MongoProxy, MongoProxy];
  const set: MongoSet = {
    url: first.url.replace(first.address, members.map(({ address }) => address).join()),
    play: undefined,
    get refused() {
      return refused;
    },
    async elect() {
      const next = primary === 0 ? 1 : 0;
      primary = undefined;
      await new Promise<void>(all => (seen = { members: new Set(), all }));
      seen = undefined;
      elections++;
      primary = next;
    },
    async close() {
      await Promise.all(members.map(member => member.close()));
    }
  };
  return set;
}
