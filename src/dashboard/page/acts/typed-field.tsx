import { useId } from "preact/hooks";
import { actTexts as texts } from "./texts";

interface Given {
  what: string;
  value: string;
  onValue: (value: string) => void;
  fault: string | undefined;
}

export function TypedField({ what, value, onValue, fault }: Given) {
  const id = useId();
  return (
    <div class="act-field">
      <label for={id}>{texts.typed(what)}</label>
      <input
        id={id}
        data-typed
        type="text"
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        required
        value={value}
        aria-invalid={fault !== undefined}
        aria-describedby={fault === undefined ? undefined : `${id}-fault`}
        onInput={event => onValue(event.currentTarget.value)}
      />
      {fault !== undefined && (
        <p id={`${id}-fault`} class="act-fault">
          {fault}
        </p>
      )}
    </div>
  );
}
