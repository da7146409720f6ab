import type { Told } from "./child";

/** The child's side of `child.ts`. Resolves when the parent has it, so that a crash right after cannot take it back. */
export function tell(name: string, data?: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    if (!process.send) return reject(new Error("started without a parent to tell"));
    process.send({ name, data } satisfies Told, undefined, undefined, error => (error ? reject(error) : resolve()));
  });
}

export function onTold(name: string, handler: (data: unknown) => void): void {
  process.on("message", (told: Told) => {
    if (told.name === name) handler(told.data);
  });
}
