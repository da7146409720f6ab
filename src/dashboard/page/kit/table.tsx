import type { ComponentChildren } from "preact";
import { Scroll } from "./scroll";

export interface Column<Row> {
  id: string;
  head: string;
  cell: (row: Row) => ComponentChildren;
  /** Right-aligned, in digits of one width. */
  num?: boolean;
  /** Left out where there is no room, as it says nothing that is needed at once. */
  wide?: boolean;
  /** Names the row. */
  rowHeader?: boolean;
  /** The words of its head are for screen readers: it holds buttons or a tick. */
  headHidden?: boolean;
}

interface TableProps<Row> {
  caption: string;
  /** A heading above says the same. */
  captionHidden?: boolean;
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  keyOf: (row: Row) => string;
  /** In place of a table without rows. */
  empty?: ComponentChildren;
  /** Other rows are on their way. */
  busy?: boolean;
  rowClass?: (row: Row) => string | undefined;
}

/** Said anew, since a browser forgets what a table is when CSS makes cards of its rows. */
const ROLES = {
  table: "table",
  group: "rowgroup",
  row: "row",
  head: "columnheader",
  name: "rowheader",
  cell: "cell"
} as const;

/** A table; at the width of a phone a list of cards. */
export function Table<Row>(props: TableProps<Row>) {
  const { caption, captionHidden = false, rows, columns, keyOf, empty, busy = false, rowClass } = props;
  if (!rows.length && empty) return <>{empty}</>;
  return (
    <Scroll label={caption}>
      <table role={ROLES.table} aria-busy={busy} class={busy ? "table busy" : "table"}>
        <caption class={captionHidden ? "sr-only" : undefined}>{caption}</caption>
        <thead role={ROLES.group}>
          <tr role={ROLES.row}>
            {columns.map(column => (
              <th key={column.id} role={ROLES.head} scope="col" class={classOf(column)}>
                <span class={column.headHidden ? "sr-only" : undefined}>{column.head}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody role={ROLES.group}>
          {rows.map(row => (
            <tr key={keyOf(row)} role={ROLES.row} class={rowClass?.(row)}>
              {columns.map(column =>
                column.rowHeader ? (
                  <th key={column.id} role={ROLES.name} scope="row" class={classOf(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td
                    key={column.id}
                    role={ROLES.cell}
                    class={classOf(column)}
                    data-label={column.headHidden ? undefined : column.head}
                  >
                    {column.cell(row)}
                  </td>
                )
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function classOf<Row>({ num, wide, headHidden }: Column<Row>): string | undefined {
  const names = [num && "num-cell", wide && "wide", headHidden && "bare"].filter(Boolean);
  return names.length ? names.join(" ") : undefined;
}
