import { Chart } from "../kit/chart";
import { ms, perMinute } from "../kit/format";
import { Empty } from "../kit/parts";
import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { link, useRoute } from "../kit/route";
import { overview as words } from "../texts/overview";
import { askedOf, SPANS, spanOf, wholeSteps } from "./span";

/** What was counted, for the last hour or day. */
export function Past() {
  const { params } = useRoute();
  const span = spanOf(params["span"]);
  const poll = usePoll("history", askedOf(span, Date.now()), { keep: true, everyMs: EVERY_MS });
  return (
    <section class="stack" aria-labelledby="past">
      <div class="page-head">
        <h2 id="past">{words.past}</h2>
        <ul class="switch" aria-label={words.span}>
          {SPANS.map(name => (
            <li key={name}>
              <a
                class="button small"
                href={link("overview", { ...params, span: name === "hour" ? undefined : name })}
                aria-current={name === span ? "true" : undefined}
              >
                {words.spans[name]}
              </a>
            </li>
          ))}
        </ul>
      </div>
      <Polled poll={poll} quiet>
        {history => {
          const steps = wholeSteps(history);
          const times = steps.map(({ at }) => at);
          const of = (name: "emitted" | "handled" | "failed" | "dead") => steps.map(step => step[name]);
          const step = words.perStep[span];
          const isIdle = steps.every(each => !each.emitted && !each.handled && !each.failed && !each.dead);
          return (
            <>
              {isIdle ? (
                <Empty>{words.nothingCounted}</Empty>
              ) : (
                <div class="columns charts">
                  <Chart
                    title={`${words.traffic}, ${step}`}
                    times={times}
                    format={perMinute}
                    series={[
                      { name: words.emitted, look: "series-1", values: of("emitted") },
                      { name: words.handled, look: "series-2", values: of("handled") }
                    ]}
                  />
                  <Chart
                    title={`${words.failures}, ${step}`}
                    times={times}
                    format={perMinute}
                    series={[
                      { name: words.failed, look: "series-3", values: of("failed") },
                      { name: words.dead, look: "series-4", values: of("dead") }
                    ]}
                  />
                  <Chart
                    title={words.latency}
                    times={times}
                    format={ms}
                    series={[{ name: words.p95, look: "series-1", values: steps.map(({ p95Ms }) => p95Ms) }]}
                  />
                </div>
              )}
              <p class="muted note">
                {words.historyNote} {history.capped && words.historyCapped}
              </p>
            </>
          );
        }}
      </Polled>
    </section>
  );
}

/** New counts come once a minute. */
const EVERY_MS = 20_000;
