import type { Context, Service } from "moleculer";
import { type Actor, actorOf } from "../src/operator/actor";
import type { DiscardParams } from "../src/operator/discard-parked";
import type { ForgetParams } from "../src/operator/forget";
import type { Storage } from "../src/runtime/assemble";
import { ACT, asParams, flag, listOf, text, textOf } from "./action-params";
import type { Broker } from "./broker";
import { nodeOf } from "./node";

/** Not reachable through an API gateway unless they are published explicitly. */
export const visibility = "public";

/** Throws RELIABLE_NO_STORE. */
export function storageOf(service: Service): Storage {
  return nodeOf(service.broker as Broker).runtime.needStorage();
}

/** Who calls. */
export function who(ctx: Context, said: string | undefined): Actor {
  const { meta, caller, nodeID } = ctx;
  return actorOf({ meta, caller, nodeID, ...(said !== undefined && { said }) });
}

type Listed<T> = Omit<T, "ids"> & { ids?: string | string[] };

function act(name: "retry" | "resolve" | "discard" | "cancel") {
  return {
    visibility,
    params: name === "discard" ? { ...ACT, parked: listOf(1000) } : ACT,
    handler(this: Service, ctx: Context<Listed<DiscardParams>>) {
      const { ids, by, ...params } = asParams(ctx.params);
      const given = { ...params, ...(ids !== undefined && { ids: [ids].flat() }) };
      return storageOf(this).operations[name](given, who(ctx, by));
    }
  };
}

/** What an operator does: each act is one audit record, with who, when and why. */
export const actActions = {
  retry: act("retry"),
  resolve: act("resolve"),
  discard: act("discard"),
  cancel: act("cancel"),
  sweep: {
    visibility,
    params: { $$strict: true, note: ACT.note, by: text },
    handler(this: Service, ctx: Context<{ note?: string; by?: string }>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).operations.sweep(params, who(ctx, by));
    }
  },
  forget: {
    visibility,
    params: {
      $$strict: true,
      group: textOf(300, false),
      pattern: { ...textOf(300, false), optional: true },
      note: ACT.note,
      by: text,
      dryRun: flag,
      force: flag
    },
    handler(this: Service, ctx: Context<ForgetParams>) {
      const { by, ...params } = asParams(ctx.params);
      return storageOf(this).operations.forget(params, who(ctx, by));
    }
  }
};
