import path from "node:path";
import { expect, it } from "vitest";
import { startNode } from "../support/child";
import { userProject } from "../support/project";
import { codeAfter } from "../support/readme";

it.each(["0.15", "0.14"] as const)("the README's quick start runs on Moleculer %s as it is told there", async line => {
	const folder = userProject(line, { "quick-start.js": codeAfter("## Quick start", "js") });
	const node = await startNode(path.join(folder, "quick-start.js"), { line });
	expect(await node.exited).toEqual({ code: 0, signal: null });

	const plain = (text: string) =>
		text
			.trim()
			.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "ID")
			.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "AT")
			.replace(/in \d+ ms/g, "in N ms");
	expect(plain(node.output)).toBe(plain(codeAfter("## Quick start", "text")));
});
