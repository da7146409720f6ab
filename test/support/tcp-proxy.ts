import { type Server, type Socket, connect, createServer } from "node:net";

/** A TCP proxy in front of a real server, which does to connections what networks do. */
export interface TcpProxy {
	readonly port: number;
	/** Accepted since the start. */
	readonly accepted: number;
	/** Open at present. */
	readonly open: number;
	/** Resets all connections (RST). */
	reset(): void;
	/** Passes nothing on in either direction, and says nothing about it; new connections are accepted into the same hole. */
	hold(): void;
	/** Ends `hold`. What was sent meanwhile is passed on. */
	release(): void;
	/** Resets all and refuses new ones. */
	down(): Promise<void>;
	up(): Promise<void>;
	close(): Promise<void>;
}

export async function tcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
	const sockets = new Set<Socket>();
	let holding = false;
	let accepted = 0;
	let port = 0;
	let server: Server | undefined;

	const accept = (client: Socket) => {
		accepted++;
		const upstream = connect(target);
		for (const [from, to] of [
			[client, upstream],
			[upstream, client]
		]) {
			sockets.add(from);
			from.setNoDelay(true);
			from.on("data", chunk => to.write(chunk));
			from.on("error", () => undefined);
			from.on("close", () => {
				sockets.delete(from);
				to.destroy();
			});
			if (holding) from.pause();
		}
	};
	const listen = () =>
		new Promise<void>((resolve, reject) => {
			const fresh = (server = createServer(accept));
			fresh.once("error", reject);
			fresh.listen(port, "127.0.0.1", () => {
				port = (fresh.address() as { port: number }).port;
				resolve();
			});
		});
	const reset = () => {
		for (const socket of sockets) socket.resetAndDestroy();
	};
	const down = () =>
		new Promise<void>(resolve => {
			const old = server;
			server = undefined;
			if (!old) return resolve();
			old.close(() => resolve());
			reset();
		});

	await listen();
	return {
		get port() {
			return port;
		},
		get accepted() {
			return accepted;
		},
		get open() {
			return sockets.size / 2;
		},
		reset,
		hold() {
			holding = true;
			for (const socket of sockets) socket.pause();
		},
		release() {
			holding = false;
			for (const socket of sockets) socket.resume();
		},
		down,
		up: listen,
		close: down
	};
}
