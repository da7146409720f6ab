import type { ChannelModel } from "amqplib";

/** What is changed of amqplib's connection: it reads one frame after the other, from the bytes that have come. */
interface FrameReader {
  rest: Buffer;
  recvFrame(): unknown;
}

const HEADER_FRAME = 2;
/** Bytes before a frame's payload: type, channel, size. */
const FRAME_HEADER = 7;
/** Bytes of a header frame's payload before its properties: class, weight, length of the body. */
const CONTENT_HEADER = 12;

/** In the headers of such a message: its properties as they came. */
const RAW_PROPERTIES = "undecodable-properties";

const guarded = new WeakSet<ChannelModel>();

/**
 * amqplib decodes tables in tables by recursion. Of some thousand levels, which RabbitMQ carries, its stack overflows,
 * and it ends the connection; so would every connection on which the message comes again. Here it comes without its
 * properties, so that it is parked. Only for a connection that consumes: of a returned publish the properties are needed.
 */
export function guardUndecodable(model: ChannelModel): void {
  if (guarded.has(model)) return;
  guarded.add(model);
  const reader = model.connection as unknown as FrameReader;
  const recvFrame = reader.recvFrame.bind(reader);
  // It calls itself by this name when more bytes have come, so `rest` has the whole frame whenever one is decoded.
  reader.recvFrame = () => {
    const frame = reader.rest;
    try {
      return recvFrame();
    } catch (thrown) {
      // It has gone on to the next frame before it decodes; where it has not, the frame itself is broken.
      if (frame.length < FRAME_HEADER || frame.readUInt8(0) !== HEADER_FRAME || reader.rest === frame) throw thrown;
      const payload = frame.subarray(FRAME_HEADER, FRAME_HEADER + frame.readUInt32BE(3));
      return {
        id: payload.readUInt16BE(0),
        channel: frame.readUInt16BE(1),
        size: Number(payload.readBigUInt64BE(4)),
        fields: { headers: { [RAW_PROPERTIES]: Buffer.from(payload.subarray(CONTENT_HEADER)) } }
      };
    }
  };
}
