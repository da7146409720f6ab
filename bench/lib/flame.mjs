// A flame graph as an SVG that needs nothing else: width = time with all that was called, callers below what they call.

const WIDTH = 1600;
const ROW = 17;
const HEAD = 46;
const LETTER = 6.4;
/** Narrower than this cannot be seen. */
const LEAST = 0.8;

const COLOURS = [
  [/garbage/, "#c0504d"],
  [/^Node\.js: socket/, "#e0955b"],
  [/^Node\.js/, "#d9b98c"],
  [/^ours/, "#6aa84f"],
  [/^amqplib/, "#8e7cc3"],
  [/^(?:mongodb|bson)/, "#6fa8dc"],
  [/^the load/, "#b7b7b7"]
];
const colourOf = owner => COLOURS.find(([pattern]) => pattern.test(owner))?.[1] ?? "#d5a6bd";

const escaped = text =>
  text.replace(/[&<>"]/g, sign => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

function* boxes(node, x, depth, scale) {
  const width = node.micros * scale;
  if (width < LEAST) return;
  yield { node, x, depth, width };
  for (const child of node.children) {
    yield* boxes(child, x, depth + 1, scale);
    x += child.micros * scale;
  }
}

/** `tree` of `callTree`; each box tells its share when it is pointed at, also of the `micros` that all of it is. */
export function flameGraph(tree, title, micros) {
  const all = [...boxes(tree, 0, 0, WIDTH / tree.micros)];
  const depth = Math.max(...all.map(box => box.depth)) + 1;
  const height = HEAD + depth * ROW + 4;
  const shapes = all.map(({ node, x, depth, width }) => {
    const y = height - 4 - (depth + 1) * ROW;
    const letters = Math.floor((width - 6) / LETTER);
    const label = letters < 3 ? "" : node.name.length > letters ? `${node.name.slice(0, letters - 1)}…` : node.name;
    const of = node.micros / tree.micros;
    const share = `${(of * 100).toFixed(2)} %, ${(of * micros).toFixed(1)} µs`;
    const text = label ? `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${escaped(label)}</text>` : "";
    return `<g><title>${escaped(`${node.name} (${node.owner}): ${share}`)}</title><rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.4, width - 0.4).toFixed(1)}" height="${ROW - 1}" fill="${colourOf(node.owner)}"/>${text}</g>`;
  });
  const legend = [
    "ours",
    "amqplib",
    "mongodb, bson",
    "Node.js: sockets",
    "Node.js",
    "garbage collection",
    "the load",
    "other packages"
  ]
    .map((name, i) => {
      const colour = colourOf(name === "mongodb, bson" ? "mongodb" : name === "the load" ? "the load itself" : name);
      return `<rect x="${4 + i * 170}" y="26" width="12" height="12" fill="${colour}"/><text x="${20 + i * 170}" y="36">${name}</text>`;
    })
    .join("");
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="monospace" font-size="11">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="4" y="16" font-size="13">${escaped(title)}</text>
${legend}
${shapes.join("\n")}
</svg>
`;
}
