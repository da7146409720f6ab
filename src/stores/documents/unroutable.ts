import { STATUS } from "../../message/lifecycle";
import { ANY_GROUP } from "../../message/message";
import { isWildcard } from "../../message/pattern";
import type { Subscription } from "../../message/records";
import { keyOf, pathOf } from "./codec";
import type { Operation } from "./collection";

/** What no queue took, and what this group takes now, is due. */
export function dueFor({ group, pattern }: Pick<Subscription, "group" | "pattern">, at: Date): Operation[] {
  // A wildcard handler may have been named by its service alone.
  const suffix = `:${pattern}`;
  const named = group.endsWith(suffix) ? [group, group.slice(0, -suffix.length)] : [group];
  return [ANY_GROUP, ...named].map(name => ({
    filter: {
      // `published`: a queue of another group has taken it.
      status: { $in: [STATUS.pending, STATUS.published, STATUS.dead] },
      // One that a sweep has in its hands is planned by what that sweep knows, and comes again.
      claim: { $exists: false },
      dueAt: { $gte: at },
      // No database matches as we do. One that does not match is looked at once in vain.
      ...(isWildcard(pattern) ? {} : { event: pattern }),
      [pathOf("unroutable", name)]: { $exists: true }
    },
    // A step of its own: the record of a confirm, which may still come, leaves it then.
    change: { $set: { dueAt: at, [`next.${keyOf(name)}`]: at } },
    many: true
  }));
}
