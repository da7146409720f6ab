import { createServer } from "node:net";

/** Low enough that RabbitMQ's distribution, 20000 away, has a legal port too. */
export async function freePort(): Promise<number> {
	for (;;) {
		const port = 6000 + Math.floor(Math.random() * 20_000);
		const free = await new Promise<boolean>(resolve => {
			const server = createServer().once("error", () => resolve(false));
			server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
		});
		if (free) return port;
	}
}
