import { useId } from "preact/hooks";
import { actTexts as texts } from "./texts";

/** Slow enough to be stopped in time, when the first ones die again. */
export const RATE = "10";

const FASTEST = 10_000;

export function rateFaultOf(text: string): string | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= FASTEST ? undefined : texts.all.rateWrong;
}

interface Given {
  value: string;
  onValue: (value: string) => void;
  fault: string | undefined;
  about: string | undefined;
}

export function Rate({ value, onValue, fault, about }: Given) {
  const id = useId();
  return (
    <div class="act-field">
      <label for={id}>{texts.all.rate}</label>
      <input
        id={id}
        type="text"
        inputMode="numeric"
        autocomplete="off"
        value={value}
        aria-invalid={fault !== undefined}
        aria-describedby={`${id}-hint`}
        onInput={event => onValue(event.currentTarget.value)}
      />
      <p id={`${id}-hint`} class={fault === undefined ? "muted" : "act-fault"}>
        {fault ?? about}
      </p>
    </div>
  );
}
