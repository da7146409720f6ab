import { useEffect, useRef, useState } from "preact/hooks";
import { ActButton } from "../acts/act-button";
import { BulkProgress } from "../acts/bulk-progress";
import { CausesTable, ChosenCause } from "../acts/causes";
import { CAUSE_PARAMS, filterOf, filterParams, hasCause } from "../acts/filter";
import { FilterForm } from "../acts/filter-form";
import { CLOSED, ListDialogs, openDialog } from "../acts/list-dialogs";
import { MessageTable } from "../acts/message-table";
import { carriedNote } from "../acts/note";
import { listTexts, deadTexts as texts } from "../acts/page-texts";
import { CursorPaging } from "../acts/paging";
import { Retried } from "../acts/retried";
import { TickBar } from "../acts/tick-bar";
import { UnderWay } from "../acts/under-way";
import { Empty, PageHead } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, setParams, useRoute } from "../kit/route";

const FIELDS = ["since", "event", "group", "errorType", "producer", "key"] as const;

/** As many of the newest dead messages are looked at for causes, when somebody asks for more. */
const DEEP = 10_000;

/** The night: causes, one cause, one message first, and then the others. */
export function Dead() {
  const { params } = useRoute();
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  const given = filterParams({ ...params, status: undefined });
  const filter = filterOf(given);
  const deep = params["look"] === "more";
  const causes = usePoll("causes", { ...filter, ...(deep && { limit: DEEP }) }, { keep: true });
  const { cursor, first, bulk } = params;
  const list = usePoll("list", { ...filter, status: "dead", ...(cursor && { cursor }) }, { keep: true });
  const rows = list.data?.rows ?? [];
  // Dead again, it is the newest of them.
  const areOthers = first !== undefined && !rows.some(({ id }) => id === first);
  const isOne = hasCause(given);
  const chosen = isOne ? causes.data?.rows[0] : undefined;
  const heading = useRef<HTMLHeadingElement>(null);
  const shown = useRef(isOne);
  useEffect(() => {
    // The link that led here, or back, is gone.
    if (shown.current !== isOne) heading.current?.focus();
    shown.current = isOne;
  }, [isOne]);
  const kept = { ...given, ...(bulk && { bulk }) };
  return (
    <>
      <PageHead title={texts.title} />
      <FilterForm page="dead" fields={FIELDS} />
      <UnderWay but={bulk} />
      {bulk !== undefined && <BulkProgress key={bulk} id={bulk} params={given} />}
      {isOne ? (
        <section class="card" aria-labelledby="cause">
          <h2 id="cause" ref={heading} tabIndex={-1}>
            {texts.chosen}
          </h2>
          <ChosenCause row={chosen} params={given} />
          <p>
            <a href={link("dead", without(given, CAUSE_PARAMS))}>{texts.allCauses}</a>
          </p>
        </section>
      ) : (
        <section class="card" aria-labelledby="causes">
          <h2 id="causes" ref={heading} tabIndex={-1}>
            {texts.causes}
          </h2>
          <Polled poll={causes}>
            {({ rows: found, messages, capped, newest = messages, moreRows }) => (
              <>
                {(found.length > 0 || !capped) && <CausesTable rows={found} busy={causes.loading} params={given} />}
                {(found.length > 0 || capped) && (
                  <p class="muted">
                    {capped ? texts.ofNewest(messages, newest) : texts.of(messages)}{" "}
                    {moreRows !== undefined && texts.moreRows(moreRows)}{" "}
                    {capped && !deep && <a href={link("dead", { ...given, look: "more" })}>{texts.lookAt(DEEP)}</a>}
                  </p>
                )}
              </>
            )}
          </Polled>
        </section>
      )}
      {first !== undefined && <Retried key={first} id={first} heading={texts.first} params={kept} />}
      <section class="card" aria-labelledby="messages">
        <h2 id="messages">{texts.messages}</h2>
        <Polled poll={list}>
          {({ total, capped, nextCursor }) =>
            rows.length === 0 ? (
              <Empty>
                {isOne || first ? texts.noneLeft : Object.keys(given).length ? texts.noneFiltered : texts.none}
              </Empty>
            ) : (
              <>
                <AllActs total={total} capped={capped} first={first} others={areOthers} newest={rows[0]?.id} />
                <p>{listTexts.found(total, capped)}</p>
                <TickBar
                  ids={rows.map(({ id }) => id)}
                  ticked={ticked}
                  onTicked={setTicked}
                  onAct={act => openDialog(act, "ticked")}
                />
                <MessageTable
                  dead
                  rows={rows}
                  busy={list.loading}
                  ticked={ticked}
                  onTicked={setTicked}
                  onRetry={id => openDialog("retry", { id })}
                  params={kept}
                />
                <CursorPaging next={nextCursor} />
              </>
            )
          }
        </Polled>
      </section>
      <ListDialogs
        filter={filter}
        ticked={rows.flatMap(({ id }) => (ticked.has(id) ? [id] : []))}
        onTicked={setTicked}
        others={areOthers}
        note={first === undefined ? undefined : carriedNote.value}
        onOne={(act, id, note) => {
          if (act !== "retry") return;
          carriedNote.value = note;
          setParams({ first: id }, { replace: true });
        }}
        onBegun={id => setParams({ ...CLOSED, bulk: id, first: undefined }, { replace: true })}
      />
    </>
  );
}

function without(params: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(params).filter(([name]) => !names.includes(name)));
}

interface AllGiven {
  total: number;
  capped: boolean | undefined;
  first: string | undefined;
  /** The first one is not among them. */
  others: boolean;
  newest: string | undefined;
}

/** One first; then all that match. */
function AllActs({ total, capped, first, others, newest }: AllGiven) {
  return (
    <div class="row">
      {newest !== undefined && (
        <ActButton
          act="retry"
          {...(first === undefined && { tone: "primary" as const })}
          onClick={() => openDialog("retry", { id: newest })}
        >
          {texts.retryFirst}
        </ActButton>
      )}
      <ActButton
        act="retry"
        {...(first !== undefined && { tone: "primary" as const })}
        onClick={() => openDialog("retry", "all")}
      >
        {others ? texts.retryOthers(total, capped) : texts.retryAll(total, capped)}
      </ActButton>
      <ActButton act="resolve" onClick={() => openDialog("resolve", "all")}>
        {texts.resolveAll(total, capped)}
      </ActButton>
      <ActButton act="discard" tone="danger" onClick={() => openDialog("discard", "all")}>
        {texts.discardAll(total, capped)}
      </ActButton>
    </div>
  );
}
