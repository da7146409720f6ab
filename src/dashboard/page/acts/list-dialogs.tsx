import { setParams, useRoute } from "../kit/route";
import { AllDialog } from "./all-dialog";
import type { Filter } from "./filter";
import { OneDialog } from "./one-dialog";
import type { FilterAct, OneAct } from "./shapes";
import { SomeDialog } from "./some-dialog";

const ACTS: readonly FilterAct[] = ["retry", "resolve", "discard"];

/** Which dialog is open stands in the address: `dialog=retry`, on one (`on=<id>`), on what is ticked, or on all that matches. */
export function openDialog(act: OneAct, on: { id: string } | "ticked" | "all"): void {
  setParams(typeof on === "string" ? { dialog: act, which: on } : { dialog: act, on: on.id });
}

export const CLOSED = { dialog: undefined, on: undefined, which: undefined };

export const closeDialog = (): void => setParams(CLOSED, { replace: true });

interface Given {
  filter: Filter;
  ticked: readonly string[];
  onTicked: (ids: ReadonlySet<string>) => void;
  /** These are the others of one that was retried before. */
  others?: boolean;
  note?: string | undefined;
  /** One was acted on, for this reason. */
  onOne?: (act: FilterAct, id: string, note: string) => void;
  onBegun?: (bulk: string) => void;
}

export function ListDialogs({ filter, ticked, onTicked, others = false, note, onOne, onBegun }: Given) {
  const { params } = useRoute();
  const act = ACTS.find(each => each === params["dialog"]);
  const { on, which } = params;
  if (!act) return null;
  if (on !== undefined)
    return <OneDialog key={on} act={act} id={on} onClose={closeDialog} onDone={why => onOne?.(act, on, why)} />;
  if (which === "ticked")
    return <SomeDialog act={act} ids={ticked} onClose={closeDialog} onDone={() => onTicked(new Set())} />;
  if (which !== "all" || !onBegun) return null;
  return <AllDialog act={act} filter={filter} others={others} note={note} onClose={closeDialog} onBegun={onBegun} />;
}
