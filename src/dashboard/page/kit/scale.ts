/** Of a chart: from numbers to places in its picture. */

export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** null = nothing was counted there, as a p95 of no message. */
export type Value = number | null;

const STEPS = [1, 2, 5, 10];

/** The next of 1, 2, 5, 10, 20, 50, … that is not less: the top of an axis that people can read. */
export function niceTop(most: number): number {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  const step = STEPS.find(each => each * power >= most) ?? 10;
  return step * power;
}

/** Of all series together. */
export function topOf(series: readonly (readonly Value[])[]): number {
  let most = 0;
  for (const values of series) for (const value of values) if (value !== null && value > most) most = value;
  return niceTop(most);
}

const round = (value: number) => Math.round(value * 10) / 10;

/** Where the step number `index` of `length` stands. */
export function xOf(index: number, length: number, { left, width }: Box): number {
  return round(left + (length < 2 ? width / 2 : (index / (length - 1)) * width));
}

export function yOf(value: number, top: number, box: Box): number {
  return round(box.top + box.height - (Math.min(value, top) / top) * box.height);
}

/** For `d` of a path: a line that ends where nothing is known, and begins anew behind it. */
export function linePath(values: readonly Value[], top: number, box: Box): string {
  let pen = "M";
  const parts: string[] = [];
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    parts.push(`${pen}${xOf(index, values.length, box)} ${yOf(value, top, box)}`);
    pen = "L";
  });
  return parts.join("");
}

/** Values that stand alone between gaps: a line has no length there, so they get a dot. */
export function lonely(values: readonly Value[]): number[] {
  return values.flatMap((value, index) =>
    value !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null ? [index] : []
  );
}

/** About so many of the steps, evenly, the first and the last among them: for the words below the axis. */
export function ticks(length: number, wanted: number): number[] {
  if (length < 1) return [];
  const many = Math.min(wanted, length);
  if (many < 2) return [0];
  return Array.from({ length: many }, (_, i) => Math.round((i * (length - 1)) / (many - 1)));
}
