import { BSON, type Document } from "mongodb";

const { deserialize, serialize } = BSON;

/** Driver and server speak OP_MSG; OP_QUERY and OP_REPLY are the first `hello` of a connection. */
export const OP_MSG = 2013;
const OP_QUERY = 2004;
const HEADER = 16;
/** Of OP_MSG: flags and the kind of the first section. Of OP_REPLY: flags, cursor, position and count. */
const MSG_DOCUMENT = HEADER + 4 + 1;
const REPLY_DOCUMENT = HEADER + 20;
/** Our own messages, told apart from the server's by nobody. */
let nextId = 1;

export interface Frame {
  id: number;
  responseTo: number;
  opcode: number;
  bytes: Buffer;
}

/** Cuts a stream of bytes into messages. */
export class FrameReader {
  #rest = Buffer.alloc(0);

  push(chunk: Buffer): Frame[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    while (this.#rest.length >= HEADER && this.#rest.length >= this.#rest.readInt32LE(0)) {
      const bytes = this.#rest.subarray(0, this.#rest.readInt32LE(0));
      this.#rest = this.#rest.subarray(bytes.length);
      frames.push({
        id: bytes.readInt32LE(4),
        responseTo: bytes.readInt32LE(8),
        opcode: bytes.readInt32LE(12),
        bytes
      });
    }
    return frames;
  }
}

export function isCommand({ opcode }: Frame): boolean {
  return opcode === OP_MSG;
}

export function isFirstHello({ opcode }: Frame): boolean {
  return opcode === OP_QUERY;
}

/** The documents of a section of kind 1 come as a list under the section's name. */
export function commandOf({ bytes }: Frame, options = {}): Document {
  const command: Document = {};
  let at = HEADER + 4;
  // A checksum may follow the last section; no driver for Node.js writes one.
  while (at < bytes.length) {
    const kind = bytes[at++];
    const end = at + bytes.readInt32LE(at);
    if (kind === 0) Object.assign(command, deserialize(bytes.subarray(at, end), options));
    else {
      const nameEnd = bytes.indexOf(0, at + 4);
      const list: Document[] = [];
      for (let next = nameEnd + 1; next < end; next += bytes.readInt32LE(next))
        list.push(deserialize(bytes.subarray(next, next + bytes.readInt32LE(next)), options));
      command[bytes.toString("utf8", at + 4, nameEnd)] = list;
    }
    at = end;
  }
  return command;
}

/** The records of an insert or update. Each keeps its types. */
function recordsOf(command: Document): [name: string, records: Document[]] | undefined {
  const name = ["documents", "updates"].find(field => Array.isArray(command[field]));
  return name ? [name, command[name] as Document[]] : undefined;
}

/** The same command with the records that pass, and the numbers of those that do not; undefined if all pass. */
export function withoutRecords(
  { bytes, id }: Frame,
  refuses: (record: Document) => Document | undefined
): { bytes: Buffer | undefined; left: number[]; writeErrors: Document[] } | undefined {
  const typed = commandOf({ bytes } as Frame, { promoteValues: false });
  const [name, all] = recordsOf(typed) ?? [];
  if (!name || !all) return undefined;
  const answers = (recordsOf(commandOf({ bytes } as Frame)) as [string, Document[]])[1].map(refuses);
  const writeErrors = answers.flatMap((answer, index) => (answer ? [{ index, ...answer }] : []));
  if (!writeErrors.length) return undefined;
  const left = all.flatMap((_, index) => (answers[index] ? [] : [index]));
  const body = serialize({ ...typed, [name]: left.map(index => all[index]) });
  const head = Buffer.alloc(MSG_DOCUMENT);
  for (const [i, value] of [head.length + body.length, id, 0, OP_MSG].entries()) head.writeInt32LE(value, i * 4);
  return { bytes: left.length ? Buffer.concat([head, body]) : undefined, left, writeErrors };
}

/** A cursor's id stays 64 bits wide: the driver takes no other. */
export function replyOf({ opcode, bytes }: Frame): Document {
  return deserialize(bytes.subarray(opcode === OP_MSG ? MSG_DOCUMENT : REPLY_DOCUMENT), { promoteLongs: false });
}

/** A reply of our own to the command with this id. */
export function encodeReply(responseTo: number, reply: Document): Buffer {
  const body = serialize(reply, { ignoreUndefined: true });
  const head = Buffer.alloc(MSG_DOCUMENT);
  for (const [i, value] of [head.length + body.length, nextId++, responseTo, OP_MSG].entries())
    head.writeInt32LE(value, i * 4);
  return Buffer.concat([head, body]);
}

/** The server's reply with another document in it. */
export function withDocument({ opcode, bytes, responseTo }: Frame, reply: Document): Buffer {
  if (opcode === OP_MSG) return encodeReply(responseTo, reply);
  const body = serialize(reply, { ignoreUndefined: true });
  const head = Buffer.from(bytes.subarray(0, REPLY_DOCUMENT));
  head.writeInt32LE(head.length + body.length, 0);
  return Buffer.concat([head, body]);
}
