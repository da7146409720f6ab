import { useId } from "preact/hooks";
import { actTexts as texts } from "./texts";

interface Given {
  label: string;
  optional: boolean;
  value: string;
  onValue: (value: string) => void;
  fault: string | undefined;
}

/** As much as the server takes. */
const MOST = 2000;

export function NoteField({ label, optional, value, onValue, fault }: Given) {
  const id = useId();
  return (
    <div class="act-field">
      <label for={id}>{label}</label>
      <textarea
        id={id}
        rows={2}
        maxLength={MOST}
        required={!optional}
        value={value}
        aria-invalid={fault !== undefined}
        aria-describedby={`${id}-hint`}
        onInput={event => onValue(event.currentTarget.value)}
      />
      <p id={`${id}-hint`} class={fault === undefined ? "muted" : "act-fault"}>
        {fault ?? texts.whyHint}
      </p>
    </div>
  );
}
