// What a package's name means to the specs, our sources and the packages below them, by the environment of the process.
const { devDependencies, dependencies } = require("../../package.json");

/** The lowest version that package.json admits of each, under names of their own there: `nedb-lowest`, … */
function lowest() {
  const named = Object.keys(dependencies).map(name => [name, `${name.replace(/^@[^/]+\//, "")}-lowest`]);
  return Object.fromEntries(
    [...named, ["moleculer", "moleculer-lowest"]].filter(([, alias]) => alias in devDependencies)
  );
}

/**
 * @param {{ MOLECULER_LINE?: string, DEPENDENCIES?: string }} environment `DEPENDENCIES`: `lowest`, which goes with
 * Moleculer 0.14.
 */
exports.aliases = ({ MOLECULER_LINE, DEPENDENCIES }) => {
  if (MOLECULER_LINE !== "0.14") return {};
  return DEPENDENCIES === "lowest" ? lowest() : { moleculer: "moleculer-014" };
};
