import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

export interface Asset {
  type: string;
  body: Buffer;
  gzipped: Buffer;
  etag: string;
}

const TYPES: Record<string, string> = {
  "index.html": "text/html; charset=utf-8",
  "page.js": "text/javascript; charset=utf-8",
  "page.css": "text/css; charset=utf-8",
  "icon.svg": "image/svg+xml"
};

/** Beside this file once it is compiled; where sources run (tests), where the build puts them. */
const FOLDERS = [join(__dirname, "assets"), join(__dirname, "../../dist/src/dashboard/assets")];

/** The files of the page by name, read once: what a request names is a key of this map, never a path. */
export function readAssets(folders: readonly string[] = FOLDERS): ReadonlyMap<string, Asset> {
  for (const folder of folders) {
    const assets = assetsIn(folder);
    if (assets) return assets;
  }
  throw new Error(
    `The files of the dashboard's page are not in ${folders.join(" or ")}; \`npm run build\` makes them.`
  );
}

function assetsIn(folder: string): Map<string, Asset> | undefined {
  try {
    return new Map(
      Object.entries(TYPES).map(([name, type]) => {
        const body = readFileSync(join(folder, name));
        // Weak: it is of the compressed bytes, too.
        const etag = `W/"${createHash("sha256").update(body).digest("base64url").slice(0, 27)}"`;
        return [name, { type, body, gzipped: gzipSync(body, { level: 9 }), etag }];
      })
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
