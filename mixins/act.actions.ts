import type { Context, Service } from "moleculer";
import type { ForgetParams } from "../src/operator/forget";
import type { DiscardParams } from "../src/operator/operations";
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

/** Who did it, where the call does not say: the REPL, the user the gateway put into meta, or the calling service. */
function who(ctx: Context): string {
  const meta = ctx.meta as { $repl?: boolean; user?: { id?: unknown; username?: unknown } };
  const user = meta.user?.username ?? meta.user?.id;
  if (typeof user === "string" || typeof user === "number") return String(user);
  if (meta.$repl) return `REPL on ${ctx.nodeID}`;
  return ctx.caller ?? `node ${ctx.nodeID}`;
}

function act(name: "retry" | "resolve" | "discard") {
  return {
    visibility,
    params: name === "discard" ? { ...ACT, parked: listOf(1000) } : ACT,
    handler(
      this: Service,
      ctx: Context<Omit<DiscardParams, "ids" | "parked"> & { ids?: string | string[]; parked?: string | string[] }>
    ) {
      const { ids, parked, ...params } = asParams(ctx.params);
      return storageOf(this).operations[name](
        {
          ...params,
          ...(ids !== undefined && { ids: [ids].flat() }),
          ...(parked !== undefined && { parked: [parked].flat() })
        },
        who(ctx)
      );
    }
  };
}

/** What an operator does: each act is kept with who, when and why. */
export const actActions = {
  retry: act("retry"),
  resolve: act("resolve"),
  discard: act("discard"),
  sweep: {
    visibility,
    params: { $$strict: true },
    handler(this: Service) {
      return storageOf(this).sweeper.once();
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
      return storageOf(this).operations.forget(asParams(ctx.params), who(ctx));
    }
  }
};
