import { ObjectId } from "mongodb";
import { expect, it } from "vitest";
import { type ActorCall, actorOf } from "../../src/operator/actor";

const call = (fields: Partial<ActorCall>): ActorCall => ({ meta: {}, caller: null, nodeID: "desk", ...fields });

it.each<[what: string, fields: Partial<ActorCall>, actor: object]>([
  ["a user by name", { meta: { user: { id: 7, username: "ann" } } }, { by: "ann" }],
  ["a user by id, 0 too", { meta: { user: { id: 0 } } }, { by: "0" }],
  ["a user by what else names one", { meta: { user: { _id: "5f", email: "a@b.c" } } }, { by: "a@b.c" }],
  [
    "a user by an ObjectId, not the call",
    { meta: { user: { _id: new ObjectId("5f0000000000000000000001") } }, said: "bob" },
    { by: "5f0000000000000000000001", onBehalfOf: "bob" }
  ],
  ["a user by a big number", { meta: { user: { id: 7n } } }, { by: "7" }],
  ["a user by the subject of a token", { meta: { user: { sub: "auth0|7" } } }, { by: "auth0|7" }],
  ["a user that is a text", { meta: { user: "ann" } }, { by: "ann" }],
  ["the user, not the call", { meta: { user: { id: 1 } }, said: "bob" }, { by: "1", onBehalfOf: "bob" }],
  ["the user, who says the same", { meta: { user: { id: 1 } }, said: "1" }, { by: "1" }],
  ["the user, not the REPL", { meta: { $repl: true, user: { id: 1 } } }, { by: "1" }],
  [
    "the user, though nothing names it, not the call",
    { meta: { user: { roles: [], username: " " } }, said: "bob" },
    { by: "a user without a name (ctx.meta.user)", onBehalfOf: "bob" }
  ],
  ["the call, where no user is", { said: "bob", meta: { $repl: true }, caller: "v1.desk" }, { by: "bob" }],
  ["the REPL", { meta: { $repl: true } }, { by: "REPL on desk" }],
  ["the calling service", { caller: "v1.desk", said: " " }, { by: "v1.desk" }],
  ["the node", {}, { by: "node desk" }],
  ["no more than fits", { meta: { user: "x".repeat(1000) } }, { by: "x".repeat(300) }]
])("who acts: %s", (_, fields, actor) => expect(actorOf(call(fields))).toEqual(actor));
