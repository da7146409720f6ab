import type { Erased } from "../erase";
import { grid } from "./tables";

export function erasedText({ key, erased, already, left, capped, dryRun }: Erased): string {
  const number = (count: number) => `${count.toLocaleString("en-US")}${capped ? "+" : ""}`;
  return [
    dryRun
      ? `Dry run: the payloads of ${number(erased)} finished message(s) with ${key} would be dropped.`
      : `The payloads of ${erased.toLocaleString("en-US")} finished message(s) with ${key} are dropped.`,
    ...(already ? [`${number(already)} had none any more.`] : []),
    ...(left.length
      ? [
          "These keep theirs; erase again when they are finished:",
          grid(
            ["status", "messages", "why"],
            left.map(({ status, messages, why }) => [status, messages, why])
          )
        ]
      : []),
    ...(capped ? ["There may be more of each kind: they could not be counted to the end."] : [])
  ].join("\n");
}
