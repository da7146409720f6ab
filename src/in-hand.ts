/** Counts what is under way, for those who wait until nothing is. */
export class InHand {
	#count = 0;
	#waiting: (() => void)[] = [];

	get count(): number {
		return this.#count;
	}

	begin(): void {
		this.#count++;
	}

	end(): void {
		if (--this.#count === 0) for (const tell of this.#waiting.splice(0)) tell();
	}

	/** Resolves when nothing is under way. */
	async idle(): Promise<void> {
		while (this.#count) await new Promise<void>(resolve => this.#waiting.push(resolve));
	}
}
