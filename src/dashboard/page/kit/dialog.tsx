import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface DialogProps {
  title: ComponentChildren;
  /** Escape has been pressed. */
  onClose: () => void;
  tone?: "danger";
  children: ComponentChildren;
  /** Buttons; the one with `autofocus` has the focus first, and that is Cancel. */
  actions?: ComponentChildren;
  /** Escape does nothing: what was sent cannot be called back. */
  busy?: boolean;
}

/** A native modal dialog, open as long as it is there; then the focus goes back to where it came from. */
export function Dialog({ title, onClose, tone, children, actions, busy = false }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useLayoutEffect(() => {
    const element = dialog.current;
    if (!element) return;
    const before = document.activeElement;
    element.showModal();
    return () => {
      element.close();
      if (before instanceof HTMLElement && before.isConnected && before !== document.body) before.focus();
      else document.querySelector<HTMLElement>("h1")?.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={tone ? `dialog ${tone}` : "dialog"}
      aria-labelledby={heading}
      onCancel={event => {
        // It is taken away by whoever opened it, so that the address says the same.
        event.preventDefault();
        if (!busy) onClose();
      }}
    >
      <h2 id={heading}>{title}</h2>
      <div class="dialog-body">{children}</div>
      {actions && <div class="row dialog-actions">{actions}</div>}
    </dialog>
  );
}
