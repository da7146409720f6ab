/** A promise that somebody else resolves. */
export interface Signal {
  promise: Promise<void>;
  resolved: boolean;
  resolve(): void;
}

export function newSignal(): Signal {
  let done: () => void = () => undefined;
  const signal: Signal = {
    promise: new Promise(resolve => (done = resolve)),
    resolved: false,
    resolve: () => {
      signal.resolved = true;
      done();
    }
  };
  return signal;
}
