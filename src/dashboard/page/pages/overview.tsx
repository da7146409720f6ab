import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { Counts } from "../overview/counts";
import { Attention, Bulks, Held, HeldKeys, Servers } from "../overview/lists";
import { Past } from "../overview/past";
import { Verdict } from "../overview/verdict";
import { overview as words } from "../texts/overview";

export function Overview() {
  const poll = usePoll("overview", {});
  return (
    <>
      <h1 class="sr-only" tabIndex={-1}>
        {words.title}
      </h1>
      <Polled poll={poll}>
        {data => (
          <>
            <Verdict data={data} />
            <Counts messages={data.messages} />
            <div class="two-thirds">
              <div class="stack">
                <HeldKeys data={data} />
                <Attention data={data} />
                <Held data={data} />
              </div>
              <div class="stack">
                <Servers data={data} />
                <Bulks data={data} />
              </div>
            </div>
          </>
        )}
      </Polled>
      <Past />
    </>
  );
}
