import { api } from "../kit/api";
import { ActDialog } from "./act-dialog";
import { actTexts as texts } from "./texts";

interface Given {
  id: string;
  onClose: () => void;
  onDone?: () => void;
}

export function ParkedDialog({ id, onClose, onDone }: Given) {
  return (
    <ActDialog
      act="discard"
      tone="danger"
      title={<bdi>{texts.parked.title(id)}</bdi>}
      submit={texts.parked.submit}
      onClose={onClose}
      typed={{ what: id, isRight: text => text.trim() === id }}
      onAct={async note => {
        await api.act("discard", { parked: id, note });
        onDone?.();
      }}
    >
      <p class="act-warning">{texts.parked.text}</p>
    </ActDialog>
  );
}
