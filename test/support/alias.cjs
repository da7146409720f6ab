// Preload (`--require`) that makes names mean what `aliases.cjs` says, for `require` and for `import`.
const Module = require("node:module");
const { pathToFileURL } = require("node:url");
const aliases = require("./aliases.cjs").aliases(process.env);

if (Object.keys(aliases).length) {
  const resolve = Module._resolveFilename;
  Module._resolveFilename = function (request, ...rest) {
    const name = Object.keys(aliases).find(name => request === name || request.startsWith(`${name}/`));
    return resolve.call(this, name ? request.replace(name, aliases[name]) : request, ...rest);
  };
  Module.register("./alias-import.mjs", { parentURL: pathToFileURL(__filename), data: aliases });
}
