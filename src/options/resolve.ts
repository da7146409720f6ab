import { ReliableError } from "../errors";
import { checkAddresses } from "./addresses";
import { fromEnvironment, fromText } from "./environment";
import type { Rule } from "./option";
import {
  ADMISSION,
  type ConsumerOptions,
  type NodeOptions,
  namesOf,
  OPTIONS,
  type OptionName,
  type ServiceOptions
} from "./options";
import { checkSchemas } from "./schemas";
import type { Values } from "./validate";
import { check, isPlain } from "./validate";

function rulesOf(names: OptionName[]): Record<string, Rule> {
  return Object.fromEntries(names.map(name => [name, OPTIONS[name].rule]));
}

const ALL_RULES = rulesOf(namesOf(["node", "service", "event"]));

/** What comes from the environment is text. */
const TEXT_RULES = Object.fromEntries(Object.entries(ALL_RULES).map(([name, rule]) => [name, fromText(rule)]));

const EVENT_RULES = rulesOf(namesOf(["event"]));

function checkDelays(delays: unknown): void {
  if (Array.isArray(delays) && delays.some((delay, i) => i > 0 && delay <= delays[i - 1])) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option 'checkDelaysMs' must increase (given: ${delays.join(", ")}).`,
      { option: "checkDelaysMs" }
    );
  }
}

/** What a service has given, checked, without defaults: argument over settings over environment. */
export function readOptions(
  argument: Values = {},
  settings: Values = {},
  environment: Values = fromEnvironment()
): Values {
  const values = {
    ...check("the environment (RELIABLE_…)", TEXT_RULES, environment),
    ...check("settings.reliable", ALL_RULES, settings),
    ...check("ReliableEmit()", ALL_RULES, argument)
  };
  checkAddresses(values);
  checkDelays(values.checkDelaysMs);
  checkSchemas(values.schemas);
  return values;
}

function withDefaults(names: OptionName[], values: Values): Values {
  const result: Values = {};
  for (const name of names) {
    const { default: preset } = OPTIONS[name];
    const value = values[name];
    // Of an object each part has a default; `false` switches off what it is about, `true` means all defaults.
    result[name] = isPlain(preset) && value !== false ? { ...preset, ...(isPlain(value) && value) } : (value ?? preset);
  }
  return result;
}

/**
 * What of a node's options goes together, when all of its services have given theirs. Throws RELIABLE_BAD_OPTION.
 * `given`: without the defaults.
 */
export function checkTogether(options: NodeOptions, given: Values): void {
  const { retainMs, retainBodiesMs = retainMs, observer } = options;
  if (observer) checkObserver(options, given);
  if (retainBodiesMs <= retainMs) return;
  throw new ReliableError(
    "RELIABLE_BAD_OPTION",
    `The option 'retainBodiesMs' (${retainBodiesMs}) must not exceed 'retainMs' (${retainMs}): a payload goes with its row at the latest.`,
    { option: "retainBodiesMs" }
  );
}

/** Where a store or a courier is of one process alone, there is nothing beside which it could stand. */
function checkObserver({ amqp, mongo }: NodeOptions, given: Values): void {
  const against = (["service", "sweeper"] as const).find(name => given[name] === (name === "sweeper"));
  const why = {
    service: "with 'service: false' there is nothing on it that shows and acts",
    sweeper: "an observer does not sweep ('sweeper: true')"
  };
  if (against === undefined && amqp && mongo) return;
  throw new ReliableError(
    "RELIABLE_BAD_OPTION",
    against === undefined
      ? `The option 'observer' needs ${[...(amqp ? [] : ["'amqp'"]), ...(mongo ? [] : ["'mongo'"])].join(" and ")}: the addresses of the cluster that is to be looked at.`
      : `The options 'observer' and '${against}' contradict each other: ${why[against]}.`,
    { option: "observer", ...(against !== undefined && { with: against }) }
  );
}

export function nodeOptions(values: Values): NodeOptions {
  const { admission = true } = values;
  const held = admission === true ? ADMISSION : isPlain(admission) ? { ...ADMISSION, ...admission } : false;
  return { ...withDefaults(namesOf(["node"]), values), admission: held } as unknown as NodeOptions;
}

export function serviceOptions(values: Values): ServiceOptions {
  const options = withDefaults(namesOf(["service", "event"]), values) as unknown as ServiceOptions;
  return { ...options, callbackAttempts: (values.maxAttempts as number | undefined) ?? options.checkDelaysMs.length };
}

/** Options of one reliable event: `reliable: true` or `{…}` over the service's defaults. */
export function consumerOptions(where: string, value: unknown, service: ServiceOptions): ConsumerOptions {
  if (value !== true && !isPlain(value))
    throw new ReliableError("RELIABLE_BAD_CONSUMER", `'reliable' in ${where} must be true or an object of options.`, {
      option: "reliable"
    });
  const names = namesOf(["event"]);
  const own = value === true ? {} : check(where, EVENT_RULES, value, "RELIABLE_BAD_CONSUMER");
  return withDefaults(names, {
    ...Object.fromEntries(names.map(name => [name, service[name as keyof ConsumerOptions]])),
    ...own,
    ...(isPlain(own.breaker) && isPlain(service.breaker) && { breaker: { ...service.breaker, ...own.breaker } })
  }) as unknown as ConsumerOptions;
}
