import { usePoll } from "../kit/poll";
import { Polled } from "../kit/polled";
import { Counts } from "../overview/counts";
import { Attention, Going, Servers } from "../overview/lists";
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
            <div class="columns">
              <Attention data={data} />
              <Servers data={data} />
              <Going data={data} />
            </div>
          </>
        )}
      </Polled>
      <Past />
    </>
  );
}
