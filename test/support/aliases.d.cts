export function aliases(environment: { MOLECULER_LINE?: string; DEPENDENCIES?: string }): Record<string, string>;
