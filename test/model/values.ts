/**
 * Values of the model by number: equal ones have the same, so that states are compared and kept as short lists of
 * numbers.
 */
export class Pool<T extends object> {
  readonly #ids = new Map<string, number>();
  readonly #values: T[] = [];
  /** Most come again as the very same object. */
  readonly #known = new WeakMap<object, number>();

  id(value: T): number {
    const known = this.#known.get(value as object);
    if (known !== undefined) return known;
    const key = textOf(value);
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#values.push(value) - 1;
      this.#ids.set(key, id);
    }
    this.#known.set(value as object, id);
    return id;
  }

  get(id: number): T {
    return this.#values[id] as T;
  }

  get size(): number {
    return this.#values.length;
  }
}

/** The clock is exchanged while the model runs. */
const Instant = Date;

export function textOf(value: unknown): string {
  return (
    JSON.stringify(value, function (this: Record<string, unknown>, key, text: unknown) {
      const own = this[key];
      if (own instanceof Instant) return `@${own.getTime()}`;
      if (Buffer.isBuffer(own)) return `#${own.toString("base64")}`;
      if (own instanceof RegExp) return String(own);
      return text;
    }) ?? "undefined"
  );
}

/** What product code gets is its own: it may change it. */
export function copy<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Instant) return new Instant(value.getTime()) as T;
  if (Buffer.isBuffer(value)) return Buffer.from(value) as unknown as T;
  if (value instanceof RegExp) return value;
  if (Array.isArray(value)) return value.map(copy) as T;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copy(item)])) as T;
}
