import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import type { Act } from "../../api";
import { Dialog } from "../kit/dialog";
import { refreshAll } from "../kit/poll";
import { session, whyNot } from "../kit/session";
import { kit } from "../texts/kit";
import { ActFailure } from "./act-failure";
import { NoteField } from "./note-field";
import { actTexts as texts } from "./texts";
import { TypedField } from "./typed-field";

/** Typed by hand, so that nobody confirms by habit. */
export interface Typed {
  /** What is to be typed, as it is shown. */
  what: string;
  isRight: (typed: string) => boolean;
}

interface Given {
  act: Act;
  title: ComponentChildren;
  /** In words what it does: never OK. */
  submit: string;
  tone?: "danger";
  children: ComponentChildren;
  onClose: () => void;
  /** The act. What it gives back is shown in the dialog; nothing: the dialog closes. */
  onAct: (note: string) => Promise<ComponentChildren>;
  typed?: Typed | undefined;
  note?: string | undefined;
  noteLabel?: string | undefined;
  noteOptional?: boolean;
  /** Why it cannot be done (yet): it is still counted, or something is missing. */
  reason?: ComponentChildren;
  /** Of the message, to find who was faster. */
  id?: string | undefined;
}

/** An act of a human: what it does, why, and as whom. An error keeps it open. The focus is on Cancel at first. */
export function ActDialog(given: Given) {
  const { act, title, submit, tone, children, onClose, onAct, typed, noteLabel, noteOptional = false, id } = given;
  const form = useId();
  const fields = useRef<HTMLFormElement>(null);
  const [note, setNote] = useState(given.note ?? "");
  const [confirmed, setConfirmed] = useState("");
  const [isTried, setTried] = useState(false);
  const [state, setState] = useState<{ busy?: boolean; error?: unknown; result?: ComponentChildren }>({});
  const reason = whyNot(act) ?? given.reason;
  const noteFault = noteOptional || note.trim() ? undefined : texts.whyMissing;
  const typedFault = !typed || typed.isRight(confirmed) ? undefined : texts.typedWrong(typed.what);

  const doIt = async () => {
    if (state.busy || reason !== undefined) return;
    setTried(true);
    if (noteFault ?? typedFault) {
      const wrong = noteFault ? "textarea" : "input[data-typed]";
      fields.current?.querySelector<HTMLElement>(wrong)?.focus();
      return;
    }
    setState({ busy: true });
    try {
      const result = await onAct(note.trim());
      if (result === undefined || result === null) onClose();
      else setState({ result });
    } catch (error) {
      setState({ error });
    }
    refreshAll();
  };

  if (state.result !== undefined)
    return (
      <Dialog
        title={title}
        onClose={onClose}
        actions={
          <button type="button" class="button" ref={focusOnce} onClick={onClose}>
            {kit.close}
          </button>
        }
      >
        <div role="status">{state.result}</div>
      </Dialog>
    );

  const actions = (
    <>
      <button type="button" class="button" ref={markFirst} onClick={onClose} disabled={state.busy}>
        {kit.cancel}
      </button>
      <button
        type="submit"
        form={form}
        class={tone === "danger" ? "button danger" : "button primary"}
        aria-disabled={reason !== undefined || state.busy ? "true" : undefined}
      >
        {state.busy ? texts.working : submit}
      </button>
    </>
  );
  return (
    <Dialog title={title} onClose={onClose} actions={actions} busy={state.busy ?? false} {...(tone && { tone })}>
      <form
        id={form}
        ref={fields}
        class="act-form"
        noValidate
        onSubmit={event => {
          event.preventDefault();
          void doIt();
        }}
      >
        {children}
        <NoteField
          label={noteLabel ?? texts.why}
          optional={noteOptional}
          value={note}
          onValue={setNote}
          fault={isTried ? noteFault : undefined}
        />
        {typed && (
          <TypedField
            what={typed.what}
            value={confirmed}
            onValue={setConfirmed}
            fault={isTried ? typedFault : undefined}
          />
        )}
        <As />
        {reason !== undefined && (
          <p class="act-reason" role="status">
            {reason}
          </p>
        )}
        {state.error !== undefined && <ActFailure error={state.error} id={id} />}
      </form>
    </Dialog>
  );
}

/** The browser gives it the focus when the dialog opens. */
function markFirst(button: HTMLButtonElement | null): void {
  button?.setAttribute("autofocus", "");
}

function focusOnce(button: HTMLButtonElement | null): void {
  button?.focus();
}

/** Who is recorded: whoever is logged in, and nobody else can be named. */
function As() {
  const user = session.value?.user;
  return (
    <p class="act-as">
      {texts.as} {user === null || user === undefined ? texts.asNobody : <bdi>{user}</bdi>}
    </p>
  );
}
