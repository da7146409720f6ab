/** Resolves when the work has settled, or after `ms`. */
export async function atMost(work: Promise<unknown>, ms: number): Promise<void> {
	let timer: NodeJS.Timeout | undefined;
	await Promise.race([work.catch(() => undefined), new Promise(resolve => (timer = setTimeout(resolve, ms)))]);
	clearTimeout(timer);
}
