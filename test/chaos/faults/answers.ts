import { ANSWERS, type Answer, COMMANDS, type CommandName, mayAnswer } from "../../answers/answers";
import type { Fault, Run } from "../run";

/**
 * Each is given for so long, to one command in so many: the driver repeats most of them once by itself, and its caller
 * must be told of some. After a refusal it looks for the primary for 500 ms.
 */
const GIVEN_MS = 2500;
const ONE_IN = 2;
const ELECTIONS = 4;

const GIVEN = ANSWERS.filter(({ name }) =>
  /^(10107|11600|11602|64|connection lost (before|when) it is done)/.test(name)
);
const late = (run: Run): Answer => ({ name: "late", play: () => ({ delayMs: run.int(100, run.pick([500, 4000])) }) });

async function give(run: Run, answer: Answer): Promise<void> {
  const { mongo } = run.cluster;
  const asked = COMMANDS.filter(command => mayAnswer(answer, command));
  mongo.play = command =>
    asked.includes(command.name as CommandName) && run.int(1, ONE_IN) === 1 ? answer.play(command) : undefined;
  await run.sleep(GIVEN_MS);
  mongo.play = undefined;
}

/** What `test/answers` gives to the store alone, under load. */
export const answerFaults: Fault[] = [
  {
    name: "store-answers",
    title:
      "store: half of its commands refused (not primary, interrupted, write concern), cut off before or after they are done, or late; four elections",
    shape: { rate: 500, mongoSet: true },
    async inject(run) {
      const acts = [
        ...[...GIVEN, late(run)].map(answer => ({ name: answer.name, act: () => give(run, answer) })),
        ...Array.from({ length: ELECTIONS }, () => ({ name: "an election", act: () => run.cluster.mongo.elect() }))
      ];
      for (const { name, act } of run.shuffled(acts)) {
        run.progress(name);
        await act();
        await run.sleep(run.int(200, 600));
      }
    }
  }
];
