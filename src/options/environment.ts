import type { Rule } from "./option";
import { OPTIONS, type OptionName } from "./options";
import type { Values } from "./validate";

export function fromText(rule: Rule): Rule {
  const { type, rules } = rule;
  return {
    ...rule,
    ...(type === "number" || type === "boolean" ? { convert: true } : {}),
    ...(rules ? { rules: rules.map(fromText) } : {})
  };
}

/** Objects, lists and functions cannot come from a variable. */
export function hasVariable(name: OptionName): boolean {
  return !["object", "array", "function"].includes(OPTIONS[name].rule.type);
}

/** RELIABLE_AMQP, RELIABLE_SWEEP_EVERY_MS, …: scalar options from the environment. */
export function fromEnvironment(environment: NodeJS.ProcessEnv = process.env): Values {
  const values: Values = {};
  for (const name of Object.keys(OPTIONS) as OptionName[]) {
    const value = environment[environmentName(name)];
    if (value !== undefined && value !== "" && hasVariable(name))
      values[name] = name === "lifecycleEvents" && value === "false" ? false : value;
  }
  return values;
}

export function environmentName(option: OptionName): string {
  return `RELIABLE_${option.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()}`;
}
