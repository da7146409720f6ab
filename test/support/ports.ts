import { createServer } from "node:net";

/** By default low enough that RabbitMQ's distribution, 20000 away, has a legal port too. */
export async function freePort(from = 6000, to = 26_000): Promise<number> {
	for (;;) {
		const port = from + Math.floor(Math.random() * (to - from));
		const free = await new Promise<boolean>(resolve => {
			const server = createServer().once("error", () => resolve(false));
			server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
		});
		if (free) return port;
	}
}
