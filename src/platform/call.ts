export type Call = (action: string, params: unknown, options: { timeout?: number }) => Promise<unknown>;
