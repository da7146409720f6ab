import { createHmac, timingSafeEqual } from "node:crypto";
import { ANNOUNCEMENT_TYPE } from "./announcement";
import { CHECKS_TYPE } from "./checks";
import { CONTROL_TYPE } from "./control";
import { HEADER, PARKED_TYPE } from "./envelope";
import { RECEIPT_TYPE, WITHDRAWAL_TYPE } from "./receipt";

/** What a message of this library is. It is part of what is signed: a receipt cannot pass for a check. */
export type Kind = "event" | "check" | "checks" | "receipt" | "withdrawal" | "announcement" | "parked" | "control";

/** The part of a message that is signed, as it is published or as it was delivered. */
export interface Signed {
  messageId?: string | undefined;
  type?: string | undefined;
  appId?: string | undefined;
  headers: Record<string, unknown>;
  body: Buffer;
}

/** Of what is signed and how. */
const SIGNATURE_VERSION = "1";
const PREFIX = "x-reliable-";

/** The number of returns by a tracker, and the groups as the producer knew them: for people. */
const INFORM: ReadonlySet<string> = new Set([HEADER.signature, HEADER.groups, "x-reliable-returned"]);

const KIND_OF_TYPE: Readonly<Record<string, Kind>> = {
  [RECEIPT_TYPE]: "receipt",
  [WITHDRAWAL_TYPE]: "withdrawal",
  [ANNOUNCEMENT_TYPE]: "announcement",
  [PARKED_TYPE]: "parked",
  [CONTROL_TYPE]: "control"
};

/** By what a message says of itself; an event cannot have one of these types, since their names are reserved. */
export function kindOf({ type = "", headers }: Pick<Signed, "type" | "headers">): Kind {
  if (headers[HEADER.count] !== undefined && type === CHECKS_TYPE) return "checks";
  return KIND_OF_TYPE[type] ?? (headers[HEADER.round] === undefined ? "event" : "check");
}

/** Base64 of HMAC-SHA-256 over each part as `<bytes>:<part>,`; see docs/wire-contract.md. */
export function signatureOf(
  kind: Kind,
  { messageId = "", type = "", appId = "", headers, body }: Signed,
  key: string
): string {
  const names = Object.keys(headers).filter(
    name => name.startsWith(PREFIX) && !INFORM.has(name) && headers[name] !== undefined
  );
  const parts = [
    ...["reliable", SIGNATURE_VERSION, kind, messageId, type, appId],
    ...names.sort().flatMap(name => [name, String(headers[name])])
  ];
  return createHmac("sha256", key)
    .update(parts.map(part => `${Buffer.byteLength(part)}:${part},`).join(""))
    .update(`${body.length}:`)
    .update(body)
    .update(",")
    .digest("base64");
}

/** Whether it is signed with one of the keys. */
export function verdictOf(kind: Kind, message: Signed, keys: string[]): "right" | "wrong" | "unsigned" {
  const given = message.headers[HEADER.signature];
  if (typeof given !== "string") return "unsigned";
  const bytes = Buffer.from(given);
  return keys.some(key => {
    const right = Buffer.from(signatureOf(kind, message, key));
    return right.length === bytes.length && timingSafeEqual(right, bytes);
  })
    ? "right"
    : "wrong";
}
