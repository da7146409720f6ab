import { ForgetDialog } from "../acts/forget-dialog";
import { PauseDialog } from "../acts/pause-dialog";
import { ReplayDialog } from "../acts/replay-dialog";
import { ResumeDialog } from "../acts/resume-dialog";
import { DIALOGS, type DialogName } from "../groups/group-acts";
import { GroupTable } from "../groups/group-table";
import { OneGroup } from "../groups/one-group";
import { Empty, PageHead } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { setParams, useRoute } from "../kit/route";
import { groups as words } from "../texts/groups";

const VIEWS = { pause: PauseDialog, resume: ResumeDialog, replay: ReplayDialog, forget: ForgetDialog };

export function Groups() {
  const { params } = useRoute();
  const poll = usePoll("overview", {});
  const { group: chosen, name = "" } = params;
  return (
    <>
      <PageHead title={words.title}>
        <label class="field inline">
          <span>{words.filter}</span>
          <input
            type="search"
            value={name}
            onInput={event => setParams({ name: event.currentTarget.value }, { replace: true })}
          />
        </label>
      </PageHead>
      <Polled poll={poll}>
        {data => {
          const rows = data.groups.filter(({ group }) => group.toLowerCase().includes(name.trim().toLowerCase()));
          const one = data.groups.find(({ group }) => group === chosen);
          return (
            <>
              {one && <OneGroup key={one.group} row={one} going={data} />}
              {chosen !== undefined && !one && <Empty>{words.notKnown(chosen)}</Empty>}
              <section class="card" aria-label={words.caption}>
                <GroupTable rows={rows} going={data} total={data.groups.length} />
                <p class="muted note">{words.rates}</p>
              </section>
            </>
          );
        }}
      </Polled>
      <OpenDialog />
    </>
  );
}

function OpenDialog() {
  const { dialog, of, pattern } = useRoute().params;
  const name = DIALOGS.find(each => each === dialog);
  if (!name || !of) return null;
  const View: (typeof VIEWS)[DialogName] = VIEWS[name];
  const close = () => setParams({ dialog: undefined, of: undefined, pattern: undefined }, { replace: true });
  return <View group={of} {...(pattern !== undefined && { pattern })} onClose={close} />;
}
