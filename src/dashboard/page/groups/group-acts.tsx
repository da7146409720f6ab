import { ActButton } from "../acts/act-button";
import { setParams } from "../kit/route";
import { groups as words } from "../texts/groups";
import { type Going, type Group, isAllPaused, pausesOf, whyNotForget } from "./group-state";

/** Which dialog of the page is open; it stands in the address. */
export const DIALOGS = ["pause", "resume", "replay", "forget"] as const;

export type DialogName = (typeof DIALOGS)[number];

const open = (dialog: DialogName, of: string, pattern?: string) => () => setParams({ dialog, of, pattern });

interface Props {
  row: Group;
  going: Going;
}

/** Of a group. What cannot be done now is there too, and says why. */
export function GroupActs({ row, going }: Props) {
  const { group } = row;
  const own = pausesOf(going, group);
  const whole = own.find(pause => pause.pattern === undefined);
  const notSubscribed = row.queues.length ? undefined : words.neverSeen;
  const named = (act: string) => words.actOn(act, group);
  return (
    <div class="row acts">
      {whole ? (
        <ActButton act="resume" small label={named(words.resume)} onClick={open("resume", whole.group)}>
          {words.resume}
        </ActButton>
      ) : (
        <ActButton
          act="pause"
          small
          label={named(words.pause)}
          reason={notSubscribed ?? (isAllPaused(going, row) ? words.pausedAll : undefined)}
          onClick={open("pause", group)}
        >
          {words.pause}
        </ActButton>
      )}
      <ActButton act="replay" small label={named(words.replay)} reason={notSubscribed} onClick={open("replay", group)}>
        {words.replay}
      </ActButton>
      <ActButton
        act="forget"
        small
        label={named(words.forget)}
        reason={whyNotForget(row)}
        onClick={open("forget", group)}
      >
        {words.forget}
      </ActButton>
    </div>
  );
}

/** Of one of its patterns. */
export function PatternActs({ row: { group }, going, pattern }: Props & { pattern: string }) {
  const own = pausesOf(going, group, pattern);
  const exact = own.find(pause => pause.pattern === pattern);
  const named = (act: string) => words.actOn(act, group, pattern);
  if (exact)
    return (
      <ActButton act="resume" small label={named(words.resume)} onClick={open("resume", exact.group, pattern)}>
        {words.resume}
      </ActButton>
    );
  return (
    <ActButton
      act="pause"
      small
      label={named(words.pause)}
      reason={own.length ? words.pausedWhole : undefined}
      onClick={open("pause", group, pattern)}
    >
      {words.pause}
    </ActButton>
  );
}
