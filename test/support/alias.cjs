// Preload (`--require`) that makes `moleculer` mean the line of MOLECULER_LINE, for `require` and for `import`.
const Module = require("node:module");
const { pathToFileURL } = require("node:url");

if (process.env.MOLECULER_LINE === "0.14") {
	const resolve = Module._resolveFilename;
	Module._resolveFilename = function (request, ...rest) {
		const aliased = request === "moleculer" || request.startsWith("moleculer/") ? request.replace("moleculer", "moleculer-014") : request;
		return resolve.call(this, aliased, ...rest);
	};
	Module.register("./alias-import.mjs", pathToFileURL(__filename));
}
