import { ServiceBroker, type ServiceSchema } from "moleculer";
import type { EmitOptions } from "../src/emit/emit-options";
import type { EmitResult } from "../src/emit/strategy";
import { bindingKey, consumerGroup } from "../src/message/pattern";
import { mergeService } from "../src/options/merge";
import type { ReliableOptions } from "../src/options/options";
import { readOptions, serviceOptions } from "../src/options/resolve";
import { eventQueue } from "../src/wire/names";
import type { Broker } from "./broker";
import { reliableCancel } from "./cancel";
import { startAll, stopAll } from "./consumers";
import { emit } from "./emit";
import { reliableEmitMany } from "./emit-many";
import { eventHandler } from "./event-context";
import { checkMoleculer } from "./moleculer-version";
import { nodeOf } from "./node";
import { addDeadAction, producerActions } from "./producer.actions";
import { ensureReliableService } from "./reliable.service";
import { groupByVersion, reliableEvents, type Schema } from "./reliable-events";
import { acquire, bound, checkName, hooks, type Mixed, release, type State } from "./service-state";

/**
 * Mixin that adds `this.reliableEmit()` to a service and makes its `events` with `reliable: true | {…}` consumers that
 * answer for what they handle. Options: see OPTIONS; also from `settings.reliable` and the environment (RELIABLE_…), in
 * this order of precedence.
 *
 * Throws RELIABLE_WRONG_VERSION on a Moleculer that is too old, RELIABLE_BAD_OPTION / RELIABLE_BAD_CONSUMER when the
 * service is created; a start rejects with RELIABLE_ACCESS_REFUSED on refused credentials and RELIABLE_TLS_FAILED on
 * refused certificates, not while a server is merely down.
 */
export function ReliableEmit(options: ReliableOptions = {}): Partial<ServiceSchema> {
  checkMoleculer(ServiceBroker.MOLECULER_VERSION);
  // Bad options are the caller's mistake where they are written, not where the service starts.
  readOptions({ ...options }, {}, {});
  return {
    settings: { $secureSettings: ["reliable"] },

    methods: {
      /** See EmitOptions. Rejects with typed RELIABLE_ errors; resolves when the strategy's promise holds. */
      reliableEmit(this: Mixed, event: string, payload: unknown, emitOptions: EmitOptions = {}): Promise<EmitResult> {
        const { runtime, options: service } = this.$reliable as State;
        return emit(this, event, emitOptions, (origin, context) =>
          runtime.emit({ service: this.fullName, options: service, origin, ...context }, event, payload, emitOptions)
        );
      },

      /** Several at once, with an outcome each; in a transaction all or none. See `emitMany`. */
      reliableEmitMany,

      /** Takes back a scheduled message. See there. */
      reliableCancel
    },

    actions: producerActions,

    merged(this: Mixed, schema: Schema): void {
      checkName(schema);
      const values = readOptions({ ...options }, schema.settings?.reliable);
      const { runtime } = nodeOf(this.broker as Broker);
      runtime.configure(values, schema.name);
      const again = this.$reliable;
      if (again) mergeService(again.given, values, schema.name);
      const merged = again?.given ?? values;
      // Not enumerable: it holds addresses, which a service that is logged must not show.
      Object.defineProperty(this, "$reliable", {
        configurable: true,
        value: { runtime, given: merged, options: bound(serviceOptions(merged), this), consumers: [] } satisfies State
      });
      const { options: service } = this.$reliable as unknown as State;
      if (service.groupByVersion) groupByVersion(schema);
      if (service.onDead) addDeadAction(schema);
      reliableEvents(schema, service, this.broker.namespace);
      // Of several ReliableEmit in `mixins` one start and one stop.
      schema.started = [...new Set(hooks(schema.started))];
      schema.stopped = [...new Set(hooks(schema.stopped))];
      if (again) return;
      // Outermost: after the user's own `started`, before the user's own `stopped`.
      schema.started = [...hooks(schema.started), startConsumers];
      schema.stopped = [...hooks(schema.stopped), stopConsumers];
    },

    created(this: Mixed): void {
      ensureReliableService(this.broker as Broker);
    },

    started: acquire,
    stopped: release
  } as unknown as Partial<ServiceSchema>;
}

async function startConsumers(this: Mixed): Promise<void> {
  const state = this.$reliable as State;
  const starts = reliableEvents(this.schema as unknown as Schema, state.options).map(
    ({ pattern, base, options }) =>
      () => {
        const group = consumerGroup(base, pattern);
        const queue = eventQueue(this.broker.namespace ?? "", base, pattern);
        return state.runtime.consume({
          pattern,
          group,
          queue,
          bindings: [bindingKey(pattern)],
          service: this.fullName,
          options,
          handle: eventHandler(this, pattern, base, group),
          decode: state.options.decode
        });
      }
  );
  await startAll(this, state, starts);
}

async function stopConsumers(this: Mixed): Promise<void> {
  await stopAll(this, this.$reliable as State);
}
