import type { Outcome } from "./couriers/courier";

/** What the parts count. The runtime's implementation hands it to the Moleculer broker's metrics and keeps totals for `stats`. */
export class Metrics {
	readonly totals: Record<string, number> = {};

	/** Called with every count; the mixin connects it to the broker's registry. */
	sink: ((name: string, value: number, labels: Record<string, string>) => void) | undefined;
	/** Called with every duration in ms. */
	timeSink: ((name: string, ms: number, labels: Record<string, string>) => void) | undefined;

	count(name: string, value = 1, labels: Record<string, string> = {}): void {
		if (!value) return;
		this.totals[name] = (this.totals[name] ?? 0) + value;
		this.sink?.(name, value, labels);
	}

	time(name: string, ms: number, labels: Record<string, string> = {}): void {
		this.timeSink?.(name, ms, labels);
	}

	emitted(event: string): void {
		this.count("emitted", 1, { event });
	}

	stored(event: string): void {
		this.count("stored", 1, { event });
	}

	outcome(event: string, outcome: Outcome): void {
		this.count(outcome, 1, { event });
	}

	handled(event: string, group: string): void {
		this.count("handled", 1, { event, group });
	}

	failed(event: string, group: string): void {
		this.count("failed", 1, { event, group });
	}

	duplicate(event: string, group: string): void {
		this.count("duplicates", 1, { event, group });
	}

	dead(count: number): void {
		this.count("dead", count);
	}

	parked(queue: string): void {
		this.count("parked", 1, { queue });
	}
}
