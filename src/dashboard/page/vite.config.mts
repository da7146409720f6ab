import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = fileURLToPath(new URL(".", import.meta.url));

/** Names without hashes: the server knows them, and a browser asks whether they have changed. */
export default defineConfig({
  root: here,
  base: "./",
  publicDir: false,
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: fileURLToPath(new URL("../../../dist/src/dashboard/assets", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rolldownOptions: {
      output: {
        entryFileNames: "page.js",
        codeSplitting: false,
        assetFileNames: ({ names }) => (names.some(name => name.endsWith(".css")) ? "page.css" : "[name][extname]")
      }
    }
  }
});
