// The row about a node that is asked for more than it can do.
const rate = (value, unit) => ({ value, unit });
const BYTES = 512;
/** The checks of `callback` come 30 s after their messages: before that it could do more than it can sustain. */
const WARM_MS = { outbox: 10_000, callback: 40_000 };

/** Of a side whose generator asks `times` as much as was sustainable just before. */
export function overload(run, strategy, { quick, times = [2], ...more }) {
  const load = quick
    ? { warmMs: 1000, sustainedMs: 2000, ms: 4000, restMs: 10_000 }
    : { warmMs: WARM_MS[strategy], sustainedMs: 20_000, ms: 60_000, restMs: 60_000 };
  return run("overload.loads", { bytes: BYTES, strategy, callers: 1000, times, ...load, ...more });
}

export const overloaded = {
  id: "P12",
  note: "one node that emits, handles and records, asked over a socket by a process of its own. Sustainable: handled per second with 1,000 messages on their way from emit to handler, 20 s (with `callback` from when the checks of its first messages come, too); then twice that is offered for 60 s; then 20 s of the first again, and the mean of the two is what counts as sustainable, because store and machine change in these minutes. Late: from when an emit was due until its handler had it, of all that were accepted. Memory: the highest RSS in these 60 s − that at their begin. The generator and the taking of its asks: CPU with an emit that does nothing. A refusal: CPU of the node's process with emits that are all refused (`maxPending`), beside accepted ones.",
  async round({ run, quick }) {
    const samples = [];
    for (const strategy of ["outbox", "callback"]) {
      const { sustainable, sustained, results } = await overload(run, strategy, { quick });
      const [{ handled, p99, growthMiB, failed, open, nodeMicros }] = results;
      if (failed || open) throw new Error(`${failed} emits failed and ${open} had no answer.`);
      const { generatorMicros, takingMicros } = await run("overload.empty", {
        rate: 2 * sustainable,
        ms: quick ? 1000 : 5000
      });
      samples.push(
        {
          what: `\`${strategy}\`, twice the sustainable rate offered: handled ÷ sustainable`,
          ours: rate(handled, "/s"),
          theirs: rate(sustainable, "/s"),
          ratio: handled / sustainable,
          target: { atLeast: 0.9 }
        },
        { what: `\`${strategy}\`: p99 of what was accepted, s`, ratio: p99 / 1000, target: { atMost: 2 } },
        { what: `\`${strategy}\`: growth of memory, MiB`, ratio: growthMiB, target: { atMost: 64 } },
        {
          what: `\`${strategy}\`: refusals with 1,000 callers that wait, of what they asked`,
          ratio: sustained.refused / (sustained.accepted + sustained.refused),
          target: { atMost: 0 }
        },
        {
          what: `\`${strategy}\`: generator ÷ the node's process, CPU per ask, µs`,
          ours: rate(generatorMicros + takingMicros, "µs"),
          theirs: rate(nodeMicros, "µs"),
          ratio: (generatorMicros + takingMicros) / nodeMicros
        }
      );
    }
    const { acceptedMicros, refusedMicros } = await run("overload.refusals", {
      bytes: BYTES,
      count: quick ? 1000 : 20_000
    });
    samples.push({
      what: "a refusal ÷ an accepted `outbox` emit, CPU of the process",
      ours: rate(refusedMicros, "µs"),
      theirs: rate(acceptedMicros, "µs"),
      ratio: refusedMicros / acceptedMicros,
      target: { atMost: 0.2 }
    });
    return samples;
  }
};
