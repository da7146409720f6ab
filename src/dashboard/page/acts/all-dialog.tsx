import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { api } from "../kit/api";
import { count, dateTime } from "../kit/format";
import { link } from "../kit/route";
import { ActDialog } from "./act-dialog";
import { ActFailure } from "./act-failure";
import { type Filter, isNumber, wordsOf } from "./filter";
import { howLong } from "./progress";
import { RATE, Rate, rateFaultOf } from "./rate-field";
import type { BulkBegun, FilterAct } from "./shapes";
import { actTexts as texts } from "./texts";
import { useCount } from "./use-count";

interface Given {
  act: FilterAct;
  filter: Filter;
  /** One of them was retried before: these are the others. */
  others?: boolean;
  note?: string | undefined;
  onClose: () => void;
  /** It has begun: the id of the bulk act. */
  onBegun: (bulk: string) => void;
}

/** Above this the number is typed. */
const TYPED_ABOVE = 100;

/** Retry, resolve or discard all dead messages that match, at a rate, in the background. */
export function AllDialog({ act, filter, others = false, note, onClose, onBegun }: Given) {
  const [rateText, setRate] = useState(RATE);
  const rate = Number(rateText);
  const rateFault = rateFaultOf(rateText);
  const body = { act, ...filter, status: "dead" };
  const dryRun = useCount(act, () => api.act("bulk", { ...body, dryRun: true }), JSON.stringify(body));
  const { data, error } = dryRun;
  const { matched = 0, capped } = data ?? {};
  const isTyped = data !== undefined && (act === "discard" || capped || matched > TYPED_ABOVE);
  const which = data ? texts.all.which(matched, capped, others) : "…";
  return (
    <ActDialog
      act={act}
      title={texts.all.title(act, which)}
      submit={data ? texts.all.submit(act, matched, capped) : texts.all.submitNone(act)}
      onClose={onClose}
      note={note}
      noteLabel={act === "resolve" ? texts.one.resolveWhy : undefined}
      typed={isTyped ? { what: count(matched), isRight: text => isNumber(text, matched) } : undefined}
      reason={reasonOf(data, error !== undefined) ?? rateFault}
      {...(act === "discard" && { tone: "danger" as const })}
      onAct={async why => {
        const { id } = await api.act("bulk", { ...body, note: why, perSecond: rate, countedAt: data?.countedAt });
        if (id === undefined) return texts.nothingLeft;
        onBegun(id);
        return undefined;
      }}
    >
      <p class={act === "discard" ? "act-warning" : undefined}>{texts.some[act]}</p>
      <FilterWords filter={filter} />
      {error && (
        <>
          <ActFailure error={error} />
          <button type="button" class="button small" onClick={dryRun.again}>
            {texts.all.recount}
          </button>
        </>
      )}
      {data?.waiting !== undefined && <p>{texts.all.waiting(data.waiting)}</p>}
      <Rate
        value={rateText}
        onValue={setRate}
        fault={rateFault}
        about={data && !rateFault && !capped ? texts.all.about(howLong(matched, rate)) : undefined}
      />
      <p class="muted">
        {texts.all.later} {act === "retry" && texts.all.itself}
      </p>
    </ActDialog>
  );
}

function reasonOf(data: BulkBegun | undefined, failed: boolean): ComponentChildren {
  if (!data) return failed ? texts.notCounted : texts.counting;
  if (data.underWay) return <Running {...data.underWay} />;
  return data.matched || data.capped ? undefined : texts.nothingLeft;
}

/** A colleague has begun the same. */
export function Running({ id, by, startedAt }: NonNullable<BulkBegun["underWay"]>) {
  return (
    <>
      <bdi>{texts.all.running(by, dateTime(startedAt))}</bdi>{" "}
      <a href={link("acts", { bulk: id })}>{texts.all.showRunning}</a>
    </>
  );
}

/** What is meant, one condition a line. */
export function FilterWords({ filter }: { filter: Filter }) {
  const words = wordsOf({ ...filter, status: undefined });
  return (
    <div class="act-filter">
      <p>{texts.all.filter}</p>
      {words.length > 0 && (
        <ul>
          {words.map(word => (
            <li key={word}>
              <bdi>{word}</bdi>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
