import { reasonOf } from "../errors";
import { matches } from "../message/pattern";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import { printable } from "../platform/printable";

/** A handler as the registry shows it. */
export interface HandlerView {
  pattern: string;
  group: string;
  /** It is declared `reliable`. */
  reliable: boolean;
}

/** A service of the cluster, as the registry of this node knows it. */
export interface ServiceView {
  name: string;
  fullName: string;
  /** It has the mixin. */
  mixed: boolean;
  /** It has the hook. */
  onDead?: boolean;
  handlers: HandlerView[];
}

/** So long after the last change or emit the registry is looked at: nodes that start together tell of many services. */
const QUIET_MS = 3000;

/** Event names with an id in them must not fill the memory. */
const MAX_EVENTS = 1000;

interface TrapsParts {
  logger: Logger;
  clock: Clock;
  /** Of this node and the others. */
  services(): ServiceView[];
  /** A group has announced that it takes this event; another language needs no entry in the registry. */
  known(event: string): boolean;
}

/**
 * What looks right in a schema and does nothing, or not what is meant: a warning for each, once. It reads the registry
 * now and then, and decides nothing.
 */
export class Traps {
  readonly #told = new Set<string>();
  /** Emitted events that were not looked at yet. */
  readonly #emitted = new Set<string>();
  readonly #seen = new Set<string>();
  #timer: Timer | undefined;

  constructor(private readonly parts: TrapsParts) {}

  /** The registry has changed. */
  changed(): void {
    this.#timer?.stop();
    this.#timer = this.parts.clock.after(QUIET_MS, () => this.look());
  }

  emitted(event: string): void {
    if (this.#seen.has(event) || this.#seen.size >= MAX_EVENTS) return;
    this.#seen.add(event);
    this.#emitted.add(event);
    this.changed();
  }

  stop(): void {
    this.#timer?.stop();
  }

  look(): void {
    try {
      const services = this.parts.services();
      for (const service of services) if (!service.mixed) this.#withoutMixin(service);
      this.#sharedQueues(services.filter(({ mixed }) => mixed));
      for (const event of this.#emitted) this.#plainOnly(event, services);
      this.#emitted.clear();
    } catch (error) {
      this.parts.logger.debug(`Reliable: the registry could not be looked at: ${reasonOf(error)}`);
    }
  }

  #withoutMixin({ fullName, handlers }: ServiceView): void {
    for (const { pattern, reliable } of handlers)
      if (reliable)
        this.#warn(
          `mixin ${fullName} ${pattern}`,
          `Service '${fullName}' declares its event '${pattern}' reliable and does not have the mixin: it hears plain emits only. Add ReliableEmit() to its mixins.`
        );
  }

  /** Two versions of one service, by Moleculer's own rule of groups. A group that is given by name is meant so. */
  #sharedQueues(services: ServiceView[]): void {
    const owners = new Map<string, string>();
    const ordered = [...services].sort((a, b) => (a.fullName < b.fullName ? -1 : 1));
    for (const { name, fullName, handlers } of ordered)
      for (const { pattern, group, reliable } of handlers) {
        if (!reliable || group !== name) continue;
        const key = JSON.stringify([group, pattern]);
        const owner = owners.get(key);
        if (owner === undefined) owners.set(key, fullName);
        else if (owner !== fullName)
          this.#warn(
            `version ${key}`,
            `Services '${owner}' and '${fullName}' share the group '${group}' for '${pattern}', and so one queue: each message goes to one of the versions. If each shall have it, set groupByVersion: true (or a 'group' for the event).`
          );
      }
  }

  #plainOnly(event: string, services: ServiceView[]): void {
    const hearing = services.flatMap(service =>
      service.handlers
        .filter(({ pattern }) => hears(event, pattern))
        .map(({ reliable }) => ({ service, reliable: reliable && service.mixed }))
    );
    if (!hearing.length || hearing.some(({ reliable }) => reliable) || this.parts.known(event)) return;
    const names = [...new Set(hearing.map(({ service }) => `'${service.fullName}'`))];
    this.#warn(
      `plain ${event}`,
      `'${event}' is emitted with reliableEmit, and only plain handlers hear it (${names.join(", ")}), which get nothing of it. Declare their event 'reliable: true' in a service with the mixin, or use ctx.emit.`
    );
  }

  #warn(key: string, text: string): void {
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.parts.logger.warn(`Reliable: ${printable(text)}`);
  }
}

/** Other nodes publish what they like. */
function hears(event: string, pattern: string): boolean {
  try {
    return !pattern.startsWith("$") && matches(event, pattern);
  } catch {
    return false;
  }
}
