// Reads the named workflow files as GitHub does, and prints what is wrong with them: a JSON list. Run with tsx, because
// the reader imports JSON in a way that Node.js 20 alone refuses.
import { readFileSync } from "node:fs";
import { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } from "@actions/workflow-parser";

const faults = [];
for (const name of process.argv.slice(2)) {
  const { context, value } = parseWorkflow({ name, content: readFileSync(name, "utf8") }, new NoOperationTraceWriter());
  // What stands in one place is looked at first, then how jobs and steps fit together.
  if (value) await convertWorkflowTemplate(context, value);
  faults.push(...context.errors.getErrors().map(error => error.message));
}
process.stdout.write(JSON.stringify(faults));
