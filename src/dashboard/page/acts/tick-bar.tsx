import { ActButton } from "./act-button";
import { listTexts } from "./page-texts";
import type { FilterAct } from "./shapes";
import { actTexts as texts } from "./texts";

interface Given {
  /** Of the dead messages that are shown. */
  ids: readonly string[];
  ticked: ReadonlySet<string>;
  onTicked: (ids: ReadonlySet<string>) => void;
  onAct: (act: FilterAct) => void;
}

/** Acts on what is ticked. */
export function TickBar({ ids, ticked, onTicked, onAct }: Given) {
  const chosen = ids.filter(id => ticked.has(id));
  const none = chosen.length ? undefined : listTexts.tickFirst;
  const isAll = ids.length > 0 && chosen.length === ids.length;
  return (
    <div class="row tick-bar">
      <label class="act-check">
        <input
          type="checkbox"
          checked={isAll}
          disabled={!ids.length}
          onChange={({ currentTarget }) => onTicked(new Set(currentTarget.checked ? ids : []))}
        />
        {listTexts.tickAll}
      </label>
      {(["retry", "resolve", "discard"] as const).map(act => (
        <ActButton
          key={act}
          act={act}
          small
          reason={none}
          onClick={() => onAct(act)}
          {...(act === "discard" && { tone: "danger" as const })}
        >
          {texts.some.submitTicked(act, chosen.length)}
        </ActButton>
      ))}
    </div>
  );
}
