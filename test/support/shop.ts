import type { Context, Service, ServiceSchema } from "moleculer";
import { MongoClient } from "mongodb";
import { type EmitOptions, ReliableEmit, type ReliableOptions } from "../../src";
import { prefixOf } from "../../src/wire/names";

/** How an order and its event belong together. */
export type Bond =
  /** The order is stored, then the event is emitted. */
  | "plain"
  /** Both in one transaction. */
  | "session"
  /** Intent first; the order's transaction writes the barrier row. */
  | "barrier"
  /** The same, and the answer to the commit is lost. */
  | "torn"
  /** Intent first; the orders are asked. */
  | "source";

export interface ShopNode {
  namespace: string;
  mongo: string;
  id: string;
  bond: Bond;
  options: ReliableOptions;
}

interface Order {
  _id: string;
}

type Emit = Service & { reliableEmit(event: string, payload: unknown, options?: EmitOptions): Promise<unknown> };

export const DATABASE = "reliable_test";

/** A service that stores orders and emits `order.created`; `order` is its `source`. */
export function shop({ namespace, mongo, options }: Pick<ShopNode, "namespace" | "mongo" | "options">): {
  schema: ServiceSchema;
  client: MongoClient;
} {
  const client = new MongoClient(mongo);
  const orders = client.db(DATABASE).collection<Order>(`${prefixOf(namespace)}.orders`);
  const place = async (service: Emit, id: string, bond: Bond): Promise<void> => {
    const emit = (more: EmitOptions = {}) => service.reliableEmit("order.created", { id }, { id, ...more });
    const inTransaction = (work: (session: unknown) => Promise<unknown>) =>
      client.withSession(session =>
        session.withTransaction(async () => {
          await orders.insertOne({ _id: id }, { session });
          await work(session);
        })
      );
    if (bond === "session") return void (await inTransaction(session => emit({ session })));
    if (bond === "barrier")
      return void (await emit({
        barrier: true,
        commit: message => inTransaction(session => message.barrier(session))
      }));
    if (bond === "torn") {
      const commit: EmitOptions["commit"] = async message => {
        await inTransaction(session => message.barrier(session));
        throw new Error("the answer was lost");
      };
      return void (await emit({ barrier: true, commit }));
    }
    if (bond === "source")
      return void (await emit({
        source: { action: "shop.order", params: { id } },
        commit: () => orders.insertOne({ _id: id })
      }));
    await orders.insertOne({ _id: id });
    await emit();
  };
  const schema = {
    name: "shop",
    mixins: [ReliableEmit({ ...options, mongo: client, sources: ["shop.order"] })],
    actions: {
      order: async (ctx: Context<{ id: string }>) =>
        (await orders.findOne({ _id: ctx.params.id })) ? { id: ctx.params.id } : null,
      place(this: Emit, ctx: Context<{ id: string; bond: Bond }>) {
        return place(this, ctx.params.id, ctx.params.bond);
      }
    },
    stopped: () => client.close()
  };
  return { schema: schema as unknown as ServiceSchema, client };
}
