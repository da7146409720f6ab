import { useState } from "preact/hooks";
import { ActButton } from "../acts/act-button";
import { causeParams } from "../acts/causes";
import { filterParams, hasCause } from "../acts/filter";
import { closeDialog, openDialog } from "../acts/list-dialogs";
import { GroupsTable, MessageFacts, SeeAlso, Timeline } from "../acts/message-parts";
import { carriedNote } from "../acts/note";
import { OneDialog } from "../acts/one-dialog";
import { messageTexts as texts } from "../acts/page-texts";
import { Meta, Payload } from "../acts/payload";
import { Retried } from "../acts/retried";
import type { OneAct, Story } from "../acts/shapes";
import { traceLink } from "../acts/story";
import { Empty, Long, PageHead } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, setParams, useRoute } from "../kit/route";
import { session } from "../kit/session";

const ACTS: readonly OneAct[] = ["retry", "resolve", "discard", "cancel"];

/** As much of an error as is shown at first: a stack is folded. */
const ERROR_SHOWN = 500;

export function MessagePage() {
  const { id } = useRoute().params;
  return (
    <>
      <PageHead title={texts.title} />
      {id === undefined ? <Empty>{texts.noId}</Empty> : <One key={id} id={id} />}
    </>
  );
}

function One({ id }: { id: string }) {
  const { params } = useRoute();
  const [isGone, setGone] = useState(false);
  const story = usePoll("get", { id, payload: false }, { off: isGone });
  const gone = story.error?.type === "RELIABLE_NOT_FOUND";
  if (gone !== isGone) setGone(gone);
  const isDead = story.data?.status === "dead";
  const { deadAt } = story.data ?? {};
  // With the instant of its death it is found among any number of dead ones.
  const died =
    deadAt === undefined ? {} : { deadFromAt: deadAt, deadToAt: new Date(Date.parse(deadAt) + 1).toISOString() };
  const causes = usePoll("causes", { idPrefix: id, ...died }, { off: !isDead });
  const kept = filterParams(params);
  const own = causes.data?.rows.find(({ sampleId }) => sampleId === id);
  // Of a dead one it is known; of one that was retried it stands in the address.
  const cause = own ? { ...since(kept), ...causeParams(own) } : hasCause(kept) ? kept : undefined;
  const act = ACTS.find(each => each === params["dialog"]);
  const done = (what: OneAct, note: string) => {
    if (what !== "retry") return;
    carriedNote.value = note;
    setParams({ ...cause, first: id }, { replace: true });
  };
  return (
    <>
      {params["first"] === id && (
        <>
          <Retried id={id} heading={texts.retried} params={kept} />
          {cause && (
            <p>
              <a href={link("dead", { ...cause, first: id })}>{texts.others}</a>
            </p>
          )}
        </>
      )}
      {gone ? (
        <Gone text={story.error?.message ?? ""} />
      ) : (
        <Polled poll={story}>{found => <Whole story={found} cause={cause} />}</Polled>
      )}
      {act && <OneDialog act={act} id={id} onClose={closeDialog} onDone={note => done(act, note)} />}
    </>
  );
}

/** Discarded, by whom and when; or deleted after its time. It is asked for no more. */
function Gone({ text }: { text: string }) {
  return (
    <>
      <p class="notice" role="status">
        <Long text={text} max={500} />
      </p>
      <p>
        <a href={link("acts")}>{texts.toActs}</a>
      </p>
    </>
  );
}

function since({ since: time }: Readonly<Record<string, string>>): Record<string, string> {
  return time === undefined ? {} : { since: time };
}

function Whole({ story, cause }: { story: Story; cause: Readonly<Record<string, string>> | undefined }) {
  const {
    id,
    status,
    reason,
    waiting,
    requestID,
    traceID = requestID,
    timeline,
    groups,
    payloadDroppedAt,
    meta
  } = story;
  const notDead = status === "dead" ? undefined : texts.notDead;
  // A trace of Moleculer has the id of its request.
  const trace = traceLink(session.value?.traceUrl, { id, requestID, traceID });
  return (
    <>
      <div class="row">
        <ActButton act="retry" tone="primary" reason={notDead} onClick={() => openDialog("retry", { id })}>
          {cause ? texts.retryFirst : texts.retry}
        </ActButton>
        <ActButton act="resolve" reason={notDead} onClick={() => openDialog("resolve", { id })}>
          {texts.resolve}
        </ActButton>
        <ActButton
          act="discard"
          tone="danger"
          reason={notDead ?? (waiting ? texts.onItsWay : undefined)}
          onClick={() => openDialog("discard", { id })}
        >
          {texts.discard}
        </ActButton>
        {status === "scheduled" && (
          <ActButton act="cancel" tone="danger" onClick={() => openDialog("cancel", { id })}>
            {texts.cancel}
          </ActButton>
        )}
      </div>
      <div class="card">
        <MessageFacts story={story} />
      </div>
      {reason !== undefined && (
        <section class="card" aria-labelledby="error">
          <h2 id="error">{texts.error}</h2>
          <p class="error-text">
            <Long text={reason} max={ERROR_SHOWN} />
          </p>
        </section>
      )}
      <section class="card" aria-labelledby="groups">
        <h2 id="groups">{texts.groups}</h2>
        <GroupsTable groups={groups} />
      </section>
      <section class="card" aria-labelledby="timeline">
        <h2 id="timeline">{texts.timeline}</h2>
        <Timeline entries={timeline} />
      </section>
      <section class="card" aria-labelledby="payload">
        <h2 id="payload">{texts.payload}</h2>
        <Payload id={id} droppedAt={payloadDroppedAt} />
        {meta !== undefined && <Meta meta={meta} />}
      </section>
      <SeeAlso story={story} cause={cause} trace={trace} />
    </>
  );
}
