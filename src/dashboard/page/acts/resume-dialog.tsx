import { api } from "../kit/api";
import { ActDialog } from "./act-dialog";
import { type GroupGiven, keyOf, nameOf } from "./pause-dialog";
import { actTexts as texts } from "./texts";

export function ResumeDialog({ group, pattern, onClose }: GroupGiven) {
  const name = nameOf(group, pattern);
  return (
    <ActDialog
      act="resume"
      title={<bdi>{texts.resume.title(name)}</bdi>}
      submit={texts.resume.submit(name)}
      onClose={onClose}
      onAct={async note => {
        const { marked } = await api.act("resume", { ...keyOf(group, pattern), note });
        return (
          <>
            <p>
              <bdi>{texts.resume.done(name)}</bdi>
            </p>
            {!marked && <p>{texts.pause.notMarked}</p>}
          </>
        );
      }}
    >
      <p>{texts.resume.text}</p>
    </ActDialog>
  );
}
