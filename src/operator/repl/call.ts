/** Calls an action of the service `reliable`, by its short name. */
export type Call = <T>(action: string, params?: Record<string, unknown>) => Promise<T>;
