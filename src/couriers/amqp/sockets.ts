import type { Duplex } from "node:stream";
import type { ChannelModel } from "amqplib";
import { TIMED_OUT, withTimeout } from "../../async/deadline";
import type { Clock } from "../../platform/clock";

/** amqplib sets it right before it tells. Who listens after that hears nothing. */
export function isClosed(model: ChannelModel): boolean {
  return (model.connection as unknown as { expectSocketClose: boolean }).expectSocketClose;
}

/** amqplib's `close()` never settles when the socket is lost before the answer. */
export async function closeModel(model: ChannelModel, withinMs: number, clock: Clock): Promise<void> {
  if (isClosed(model)) return;
  const closed = new Promise<void>(resolve => model.once("close", () => resolve()));
  model.close().catch(() => undefined);
  if ((await withTimeout(closed, withinMs, clock)) !== TIMED_OUT) return;
  destroySocket(model, "no answer to close");
  await closed;
}

/** Destroyed with an error, since otherwise amqplib does not notice that the socket is gone. */
export function destroySocket(model: ChannelModel, reason: string): void {
  streamOf(model).destroy(new Error(reason));
}

function streamOf(model: ChannelModel): Duplex {
  return (model.connection as unknown as { stream: Duplex }).stream;
}

/**
 * amqplib writes every frame by itself: with `noDelay` a system call and a packet each, and a read at the broker. What
 * is written within one turn of the event loop goes out together, still in that turn.
 */
export function gatherWrites(model: ChannelModel): void {
  const stream = streamOf(model);
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
  const flush = () => stream.uncork();
  stream.write = (...args: unknown[]): boolean => {
    if (stream.writableCorked === 0) {
      stream.cork();
      process.nextTick(flush);
    }
    return write(...args);
  };
}
