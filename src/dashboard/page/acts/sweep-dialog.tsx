import { api } from "../kit/api";
import { ActDialog } from "./act-dialog";
import { actTexts as texts } from "./texts";

/** One pass, by hand. */
export function SweepDialog({ onClose }: { onClose: () => void }) {
  return (
    <ActDialog
      act="sweep"
      title={texts.sweep.title}
      submit={texts.sweep.submit}
      onClose={onClose}
      onAct={async note => {
        const counts = await api.act("sweep", { note });
        // An observer sweeps nothing itself.
        if (counts["asked"]) return texts.sweep.asked;
        const told = Object.entries(counts).filter(([, count]) => count !== 0 && count !== false);
        return (
          <>
            <p>{told.length ? texts.sweep.done : texts.sweep.nothing}</p>
            <ul class="act-list">
              {told.map(([name, count]) => (
                <li key={name}>
                  {name}: {String(count)}
                </li>
              ))}
            </ul>
          </>
        );
      }}
    >
      <p>{texts.sweep.text}</p>
    </ActDialog>
  );
}
