// One side of one round: a process of its own, so that no side inherits another's heap, compiled code or connections.
const [side, json] = process.argv.slice(2);
const { default: sides } = await import(`../sides/${side.split(".")[0]}.mjs`);
const result = await sides[side.split(".")[1]](JSON.parse(json));
process.send(result, () => process.exit());
