import type { RefObject } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { kit } from "../texts/kit";
import { dateTime, hourMinute } from "./format";
import { type Box, linePath, lonely, ticks, topOf, type Value, xOf, yOf } from "./scale";
import { Table } from "./table";

export interface Series {
  name: string;
  /** Class of its colour and its dashes: `series-1` to `series-4`. */
  look: string;
  values: readonly Value[];
}

interface ChartProps {
  title: string;
  /** Instants of the steps. */
  times: readonly string[];
  series: readonly Series[];
  format: (value: number) => string;
}

const HEIGHT = 168;
/** For the words beside and below the lines. */
const MARGIN = { left: 48, right: 10, top: 10, bottom: 26 };
/** Until it is known how wide its place is. */
const USUAL_WIDTH = 400;
/** One word below the axis needs so much. */
const TICK_WIDTH = 90;

/** Lines over time. What it shows stands below it in words, and in full in a table. */
export function Chart({ title, times, series, format }: ChartProps) {
  const [asTable, setAsTable] = useState(false);
  const id = useId();
  const [figure, width] = useWidth();
  const box: Box = {
    ...{ left: MARGIN.left, top: MARGIN.top },
    ...{ width: Math.max(40, width - MARGIN.left - MARGIN.right), height: HEIGHT - MARGIN.top - MARGIN.bottom }
  };
  const top = topOf(series.map(({ values }) => values));
  const shown = (value: Value | undefined) => (value === null || value === undefined ? kit.none : format(value));
  const last = times.length - 1;
  return (
    <figure ref={figure} class="chart" aria-labelledby={id}>
      <figcaption id={id}>
        <strong>{title}</strong>
      </figcaption>
      <svg viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={title}>
        {[0, top / 2, top].map(value => (
          <g key={value}>
            <line
              class="grid"
              x1={box.left}
              x2={box.left + box.width}
              y1={yOf(value, top, box)}
              y2={yOf(value, top, box)}
            />
            <text x={box.left - 6} y={yOf(value, top, box) + 4} text-anchor="end">
              {format(value)}
            </text>
          </g>
        ))}
        {ticks(times.length, Math.floor(box.width / TICK_WIDTH) + 1).map(index => (
          <text key={index} x={xOf(index, times.length, box)} y={HEIGHT - 8} text-anchor={anchorOf(index, last)}>
            {hourMinute(times[index] as string)}
          </text>
        ))}
        {series.map(({ name, look, values }) => (
          <g key={name} class={look}>
            <path d={linePath(values, top, box)} />
            {lonely(values).map(index => (
              <circle
                key={index}
                cx={xOf(index, values.length, box)}
                cy={yOf(values[index] as number, top, box)}
                r="2.5"
              />
            ))}
          </g>
        ))}
      </svg>
      <ul class="legend">
        {series.map(({ name, look, values }) => (
          <li key={name}>
            <svg class={`key ${look}`} viewBox="0 0 24 8" aria-hidden="true">
              <path d="M0 4L24 4" />
            </svg>
            {name} <strong>{shown(values[last])}</strong>
          </li>
        ))}
        {last >= 0 && <li class="muted">{kit.lastValue(hourMinute(times[last] as string))}</li>}
      </ul>
      <button type="button" class="button small" aria-expanded={asTable} onClick={() => setAsTable(!asTable)}>
        {asTable ? kit.hideTable : kit.showTable}
        <span class="sr-only">: {title}</span>
      </button>
      {asTable && (
        <div class="chart-table">
          <Table
            caption={title}
            rows={times.map((at, index) => ({ at, index })).reverse()}
            keyOf={({ at }) => at}
            columns={[
              { id: "at", head: kit.time, cell: ({ at }) => dateTime(at), rowHeader: true },
              ...series.map(({ name, values }) => ({
                id: name,
                head: name,
                num: true,
                cell: ({ index }: { index: number }) => shown(values[index])
              }))
            ]}
          />
        </div>
      )}
    </figure>
  );
}

/** Its words keep their size, however wide it is. */
function useWidth(): [RefObject<HTMLElement | null>, number] {
  const figure = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(USUAL_WIDTH);
  useLayoutEffect(() => {
    const element = figure.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(Math.max(1, element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [figure, width];
}

function anchorOf(index: number, last: number): "start" | "middle" | "end" {
  if (index === 0) return "start";
  return index === last ? "end" : "middle";
}
