import { link, useRoute } from "../kit/route";
import { actsTexts, listTexts } from "./page-texts";

/** Of a list that goes on from a cursor: the browser's way back leads to the page before. */
export function CursorPaging({ next }: { next: string | undefined }) {
  const { page, params } = useRoute();
  const { cursor } = params;
  if (cursor === undefined && next === undefined) return null;
  const to = (at: string | undefined) => link(page, { ...params, cursor: at });
  return (
    <nav class="row paging" aria-label={listTexts.paging}>
      {cursor !== undefined && <a href={to("")}>{listTexts.newest}</a>}
      {next !== undefined && <a href={to(next)}>{listTexts.older}</a>}
    </nav>
  );
}

interface PagesGiven {
  page: number;
  totalPages: number;
  capped?: boolean | undefined;
  /** Of the address: there may be two lists on a page. */
  name: string;
  label: string;
}

export function Paging({ page, totalPages, capped, name, label }: PagesGiven) {
  const { page: where, params } = useRoute();
  if (totalPages <= 1 && page === 1) return null;
  const to = (n: number) => link(where, { ...params, [name]: n === 1 ? undefined : n });
  return (
    <nav class="row paging" aria-label={label}>
      {page > 1 && <a href={to(page - 1)}>{actsTexts.previous}</a>}
      <span>{actsTexts.page(page, totalPages, capped)}</span>
      {(page < totalPages || capped) && <a href={to(page + 1)}>{actsTexts.next}</a>}
    </nav>
  );
}

/** The number of a page in the address. */
export function pageOf(text: string | undefined): number {
  const page = Number(text);
  return Number.isInteger(page) && page > 0 ? page : 1;
}
