/**
 * A first-in, first-out queue that also takes items back at its front. Every operation is O(1) amortised at any length.
 */
export class Fifo<T> {
  #front: T[] = [];
  #back: (T | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#front.length + this.#back.length - this.#head;
  }

  push(item: T): void {
    this.#back.push(item);
  }

  /** Puts items back before all others, keeping their order. */
  putBack(items: T[]): void {
    for (let i = items.length - 1; i >= 0; i--) this.#front.push(items[i]);
  }

  peek(): T | undefined {
    return this.#front.length ? this.#front[this.#front.length - 1] : this.#back[this.#head];
  }

  shift(): T | undefined {
    if (this.#front.length) return this.#front.pop();
    if (this.#head === this.#back.length) return undefined;
    const item = this.#back[this.#head];
    this.#back[this.#head++] = undefined;
    if (this.#head === this.#back.length) {
      this.#back = [];
      this.#head = 0;
    } else if (this.#head >= 4096 && this.#head * 2 >= this.#back.length) {
      // Each copy drops as many items as it keeps, which makes it O(1) amortised.
      this.#back = this.#back.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  drain(): T[] {
    const all: T[] = [];
    for (let item = this.shift(); item !== undefined; item = this.shift()) all.push(item);
    return all;
  }
}
