import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import type { Act } from "../../api";
import { whyNot } from "../kit/session";

interface Given {
  act: Act;
  onClick: () => void;
  children: ComponentChildren;
  /** Why it cannot be done now, whoever asks. */
  reason?: string | undefined;
  /** `danger` is red on its edge alone: the red button is in the dialog. */
  tone?: "primary" | "danger";
  small?: boolean;
  /** Where what is written on it does not say on what. */
  label?: string;
}

/** What may not be done is shown all the same, with the reason: it stays in reach of the keyboard, and says it on a click. */
export function ActButton({ act, onClick, children, reason, tone, small, label }: Given) {
  const id = useId();
  const [isTold, setTold] = useState(false);
  const why = whyNot(act) ?? reason;
  const classes = ["button", tone, tone === "danger" && "quiet", small && "small"].filter(Boolean).join(" ");
  if (why === undefined)
    return (
      <button type="button" class={classes} aria-label={label} onClick={onClick}>
        {children}
      </button>
    );
  return (
    <span class="act-off">
      <button
        type="button"
        class={classes}
        aria-label={label}
        aria-disabled="true"
        aria-describedby={id}
        title={why}
        onClick={() => setTold(!isTold)}
      >
        {children}
      </button>
      <span id={id} class={isTold ? "act-why" : "act-why hidden"}>
        {why}
      </span>
    </span>
  );
}
