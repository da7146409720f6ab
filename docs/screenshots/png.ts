import { crc32, deflateSync, inflateSync } from "node:zlib";

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
const MAX_COLOURS = 256;

/**
 * The same picture with 256 colours at most: a third of the bytes, and of a page of text nobody sees it. The colours of
 * planes stay as they are; those of the edges of letters become the nearest of the most frequent ones.
 */
export function withFewColours(png: Buffer): Buffer {
  const { width, height, pixels } = decode(png);
  const counts = new Map<number, number>();
  for (let at = 0; at < pixels.length; at += 3) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const palette = [...counts.keys()]
    .sort((a, b) => (counts.get(b) as number) - (counts.get(a) as number))
    .slice(0, MAX_COLOURS);
  const index = new Map([...counts.keys()].map(colour => [colour, nearest(colour, palette)]));
  const rows = Buffer.alloc((width + 1) * height);
  for (let at = 0; at < width * height; at++)
    rows[at + Math.floor(at / width) + 1] = index.get(pixels.readUIntBE(at * 3, 3)) as number;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8);
  return Buffer.concat([
    SIGNATURE,
    chunk("IHDR", header),
    chunk("PLTE", Buffer.from(palette.flatMap(partsOf))),
    chunk("IDAT", deflateSync(rows, { level: 9, memLevel: 9 })),
    chunk("IEND", Buffer.alloc(0))
  ]);
}

const partsOf = (colour: number) => [colour >> 16, (colour >> 8) & 0xff, colour & 0xff];

function nearest(colour: number, palette: number[]): number {
  const own = partsOf(colour);
  const apart = palette.map(other =>
    partsOf(other).reduce((sum, part, i) => sum + (part - (own[i] as number)) ** 2, 0)
  );
  return apart.indexOf(Math.min(...apart));
}

/** As Chromium writes them: 8 bits a channel, RGB or RGBA, not interlaced. */
function decode(png: Buffer): { width: number; height: number; pixels: Buffer } {
  const [width, height, bits, type] = [png.readUInt32BE(16), png.readUInt32BE(20), png[24], png[25]];
  if (bits !== 8 || (type !== 2 && type !== 6)) throw new Error(`a PNG of ${bits} bits and type ${type}`);
  const size = type === 6 ? 4 : 3;
  const data: Buffer[] = [];
  for (let at = SIGNATURE.length; at < png.length; ) {
    const length = png.readUInt32BE(at);
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") data.push(png.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const raw = unfiltered(inflateSync(Buffer.concat(data)), width * size, height, size);
  const pixels = Buffer.alloc(width * height * 3);
  for (let at = 0; at < width * height; at++) raw.copy(pixels, at * 3, at * size, at * size + 3);
  return { width, height, pixels };
}

function unfiltered(lines: Buffer, bytes: number, height: number, size: number): Buffer {
  const out = Buffer.alloc(bytes * height);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (bytes + 1)];
    for (let x = 0; x < bytes; x++) {
      const left = x < size ? 0 : (out[y * bytes + x - size] as number);
      const up = y === 0 ? 0 : (out[(y - 1) * bytes + x] as number);
      const corner = x < size || y === 0 ? 0 : (out[(y - 1) * bytes + x - size] as number);
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter ?? 0] as number;
      out[y * bytes + x] = ((lines[y * (bytes + 1) + 1 + x] as number) + guess) & 0xff;
    }
  }
  return out;
}

function paeth(left: number, up: number, corner: number): number {
  const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}
