export interface CallOptions {
  timeout?: number;
  /** This node and no other. */
  nodeID?: string;
  retries?: number;
}

export type Call = (action: string, params: unknown, options: CallOptions) => Promise<unknown>;
