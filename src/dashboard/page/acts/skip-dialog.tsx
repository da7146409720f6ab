import { api } from "../kit/api";
import { Id, Time } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { keys as texts } from "../texts/keys";
import { ActDialog } from "./act-dialog";

interface Given {
  orderKey: string;
  group: string;
  onClose: () => void;
}

/** Resolves what holds a key in one group, so that the key goes on. Who may resolve may do it. */
export function SkipDialog({ orderKey: key, group, onClose }: Given) {
  const poll = usePoll("keys", { key });
  const held = poll.data?.rows.find(row => row.group === group);
  const { dialog } = texts;
  return (
    <ActDialog
      act="resolve"
      id={held?.id}
      title={<bdi>{dialog.title(key)}</bdi>}
      submit={dialog.submit}
      onClose={onClose}
      noteLabel={dialog.why}
      reason={poll.data && !held ? dialog.gone : undefined}
      onAct={async note => {
        await api.act("skip", { key, group, note });
      }}
    >
      <Polled poll={poll}>
        {() =>
          held && (
            <>
              <p>
                <bdi>{held.event}</bdi> · <Id text={held.id} /> {dialog.holds} <Id text={group} /> {dialog.since}{" "}
                <Time at={held.since} />. {dialog.behind(held.behind, held.capped)}
              </p>
              <p>{dialog.meaning}</p>
            </>
          )
        }
      </Polled>
    </ActDialog>
  );
}
