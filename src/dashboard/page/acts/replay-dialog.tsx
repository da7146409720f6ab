import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { type ApiFailure, api, failureOf } from "../kit/api";
import { link } from "../kit/route";
import { ActDialog } from "./act-dialog";
import { ActFailure } from "./act-failure";
import { Running } from "./all-dialog";
import { isNumber } from "./filter";
import { howLong } from "./progress";
import { RATE, Rate, rateFaultOf } from "./rate-field";
import type { ReplayBegun } from "./shapes";
import { actTexts as texts } from "./texts";

interface Given {
  group: string;
  onClose: () => void;
}

const HOUR_MS = 3_600_000;

/** For an input of a local time: `2026-11-26T03:02`. */
function localText(at: Date): string {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const isoOf = (local: string): string => new Date(local).toISOString();

/** Sends kept messages of a time to one group. They are counted first, and what was counted is what is confirmed. */
export function ReplayDialog({ group, onClose }: Given) {
  const [from, setFrom] = useState(localText(new Date(Date.now() - HOUR_MS)));
  const [to, setTo] = useState("");
  const [event, setEvent] = useState("");
  const [again, setAgain] = useState(false);
  const [rateText, setRate] = useState(RATE);
  const [counted, setCounted] = useState<{ of: string; data?: ReplayBegun; error?: ApiFailure }>();
  const rate = Number(rateText);
  const rateFault = rateFaultOf(rateText);
  const of = JSON.stringify([from, to, event, again]);
  const { data, error } = counted?.of === of ? counted : {};
  const { matched = 0, capped } = data ?? {};

  const body = () => ({
    group,
    fromAt: isoOf(from),
    ...(to && { toAt: isoOf(to) }),
    ...(event.trim() && { event: event.trim() }),
    ...(again && { again })
  });
  const ask = async () => {
    try {
      setCounted({ of, data: await api.act("replay", { ...body(), dryRun: true }) });
    } catch (thrown) {
      setCounted({ of, error: failureOf(thrown) });
    }
  };

  return (
    <ActDialog
      act="replay"
      title={<bdi>{texts.replay.title(group)}</bdi>}
      submit={data ? texts.replay.submit(matched, capped) : texts.replay.submitNone}
      onClose={onClose}
      typed={
        data && (capped || matched > 100)
          ? { what: matched.toLocaleString("en-US"), isRight: text => isNumber(text, matched) }
          : undefined
      }
      reason={reasonOf(data, from) ?? rateFault}
      onAct={async note => {
        const { id } = await api.act("replay", { ...body(), note, perSecond: rate, countedAt: data?.countedAt });
        if (id === undefined) return texts.nothingLeft;
        return (
          <p>
            {texts.replay.done} <a href={link("acts", { bulk: id })}>{texts.replay.showProgress}</a>
          </p>
        );
      }}
    >
      <p>{texts.replay.text}</p>
      <Field label={texts.replay.from} isTime value={from} onValue={setFrom} />
      <Field label={texts.replay.to} isTime value={to} onValue={setTo} />
      <Field label={texts.replay.event} value={event} onValue={setEvent} />
      <label class="act-check">
        <input type="checkbox" checked={again} onChange={({ currentTarget }) => setAgain(currentTarget.checked)} />
        {texts.replay.again}
      </label>
      <p>
        <button type="button" class="button small" onClick={() => void ask()} disabled={!from}>
          {texts.replay.count}
        </button>
      </p>
      {error && <ActFailure error={error} />}
      {data && (
        <p role="status">
          <bdi>{data.text}</bdi>
        </p>
      )}
      <Rate
        value={rateText}
        onValue={setRate}
        fault={rateFault}
        about={data && !rateFault && !capped ? texts.all.about(howLong(matched, rate)) : undefined}
      />
    </ActDialog>
  );
}

function reasonOf(data: ReplayBegun | undefined, from: string): ComponentChildren {
  if (!from) return texts.replay.fromMissing;
  if (!data) return texts.replay.notCounted;
  if (data.underWay) return <Running {...data.underWay} />;
  return data.matched || data.capped ? undefined : texts.nothingLeft;
}

interface FieldGiven {
  label: string;
  isTime?: boolean;
  value: string;
  onValue: (value: string) => void;
}

function Field({ label, isTime = false, value, onValue }: FieldGiven) {
  const id = useId();
  return (
    <div class="act-field">
      <label for={id}>{label}</label>
      <input
        id={id}
        {...(isTime ? { type: "datetime-local" as const } : { type: "text" as const, autocomplete: "off" as const })}
        value={value}
        onInput={event => onValue(event.currentTarget.value)}
      />
    </div>
  );
}
