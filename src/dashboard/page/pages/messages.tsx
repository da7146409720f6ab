import { useState } from "preact/hooks";
import { ActButton } from "../acts/act-button";
import { EraseDialog } from "../acts/erase-dialog";
import { filterOf, filterParams } from "../acts/filter";
import { FilterForm } from "../acts/filter-form";
import { closeDialog, ListDialogs, openDialog } from "../acts/list-dialogs";
import { MessageTable } from "../acts/message-table";
import { deadTexts, listTexts as texts } from "../acts/page-texts";
import { CursorPaging } from "../acts/paging";
import { Retried } from "../acts/retried";
import { actTexts } from "../acts/texts";
import { TickBar } from "../acts/tick-bar";
import { Empty, PageHead } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, setParams, useRoute } from "../kit/route";

const FIELDS = [
  "status",
  "since",
  "olderThan",
  "event",
  "group",
  "producer",
  "key",
  "idPrefix",
  "requestID",
  "errorType",
  "errorText"
] as const;

/** All messages, whatever their status: to find the one. */
export function Messages() {
  const { params } = useRoute();
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  const given = filterParams(params);
  const filter = filterOf(given);
  const { cursor, first, dialog } = params;
  const list = usePoll("list", { ...filter, ...(cursor && { cursor }) }, { keep: true });
  const rows = list.data?.rows ?? [];
  const dead = rows.flatMap(({ id, status }) => (status === "dead" ? [id] : []));
  const { key } = filter;
  return (
    <>
      <PageHead title={texts.title}>
        {key !== undefined && (
          <ActButton act="erase" tone="danger" onClick={() => setParams({ dialog: "erase" })}>
            {actTexts.erase.open}
          </ActButton>
        )}
      </PageHead>
      <FilterForm page="messages" fields={FIELDS} />
      {first !== undefined && <Retried key={first} id={first} heading={texts.retried} params={given} />}
      <Polled poll={list}>
        {({ total, capped, estimated, nextCursor }) =>
          rows.length === 0 ? (
            <Empty>{texts.none}</Empty>
          ) : (
            <>
              <p>
                {texts.found(total, capped, estimated)}
                {filter.status === "dead" && (
                  <>
                    {" · "}
                    <a href={link("dead", { ...given, status: undefined })}>{deadTexts.toCauses}</a>
                  </>
                )}
              </p>
              {dead.length > 0 && (
                <TickBar ids={dead} ticked={ticked} onTicked={setTicked} onAct={act => openDialog(act, "ticked")} />
              )}
              <MessageTable
                rows={rows}
                busy={list.loading}
                ticked={ticked}
                onTicked={setTicked}
                onRetry={id => openDialog("retry", { id })}
                params={{}}
              />
              <CursorPaging next={nextCursor} />
            </>
          )
        }
      </Polled>
      <ListDialogs
        filter={filter}
        ticked={dead.filter(id => ticked.has(id))}
        onTicked={setTicked}
        onOne={(act, id) => act === "retry" && setParams({ first: id }, { replace: true })}
      />
      {dialog === "erase" && key !== undefined && <EraseDialog messageKey={key} onClose={closeDialog} />}
    </>
  );
}
