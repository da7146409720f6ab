import { usePoll } from "../kit/poll";
import { link } from "../kit/route";
import { deadTexts as texts } from "./page-texts";
import { isUnderWay, progressText } from "./progress";
import { actTexts } from "./texts";

/** As many of the newest bulk acts are looked at. */
const LOOKED_AT = 20;

/** Bulk acts of others that are under way: nobody begins what a colleague has begun. */
export function UnderWay({ but }: { but?: string | undefined }) {
  const { data } = usePoll("bulks", { pageSize: LOOKED_AT });
  const rows = (data?.rows ?? []).filter(row => isUnderWay(row) && row.bulkID !== but);
  if (!rows.length) return null;
  return (
    <ul class="under-way" aria-label={texts.underWay}>
      {rows.map(row => (
        <li key={row.bulkID}>
          <a href={link("acts", { bulk: row.bulkID })}>
            <bdi>
              {actTexts.bulk.heading[row.act] ?? row.act} {texts.by} {row.by}
            </bdi>
          </a>
          : {progressText(row)}
        </li>
      ))}
    </ul>
  );
}
