import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { go, link, useRoute } from "../kit/route";
import { FILTER_PARAMS, faultOf, filterOf, filterParams, wordsOf } from "./filter";
import { listTexts as texts } from "./page-texts";

export type Field = keyof typeof texts.fields;

const STATUSES = ["scheduled", "intended", "pending", "published", "consumed", "dead", "resolved", "cancelled"];
const TIMES = ["15min", "1h", "6h", "1d", "7d"];

interface Given {
  page: "dead" | "messages";
  fields: readonly Field[];
}

/** What the list is filtered by: all of it stands in the address. It is applied by a button, so that nothing moves while somebody types. */
export function FilterForm({ page, fields }: Given) {
  const { params } = useRoute();
  const [isOpen, setOpen] = useState(matchMedia("(min-width: 45rem)").matches);
  const given = filterParams(params);
  const fault = faultOf(params);
  const words = wordsOf(filterOf(params));
  const form = useRef<HTMLFormElement>(null);
  // Only when the address has changed: what somebody is typing is not touched, and the focus stays.
  useLayoutEffect(() => {
    for (const field of form.current?.elements ?? [])
      if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement)
        field.value = given[field.name] ?? "";
  }, [JSON.stringify(given)]);
  const apply = (filled: HTMLFormElement) => {
    const entered = Object.fromEntries([...new FormData(filled)].map(([name, value]) => [name, String(value).trim()]));
    // What the form has no field for was chosen elsewhere, and stays.
    go(page, { ...given, ...entered });
  };
  return (
    <details class="filters" open={isOpen} onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>
        {texts.filters}
        {words.length > 0 && (
          <>
            : <bdi>{words.join(" · ")}</bdi>
          </>
        )}
      </summary>
      <form
        ref={form}
        class="filter-form"
        onSubmit={event => {
          event.preventDefault();
          apply(event.currentTarget);
        }}
      >
        {fields.map(field => (
          <FilterField key={field} field={field} value={given[field] ?? ""} />
        ))}
        <div class="row filter-buttons">
          <button type="submit" class="button">
            {texts.apply}
          </button>
          {FILTER_PARAMS.some(name => given[name] !== undefined) && <a href={link(page)}>{texts.clear}</a>}
        </div>
      </form>
      {fault !== undefined && (
        <p class="act-fault" role="alert">
          {fault}
        </p>
      )}
    </details>
  );
}

function FilterField({ field, value }: { field: Field; value: string }) {
  const id = useId();
  const options = field === "status" ? STATUSES : field === "since" || field === "olderThan" ? TIMES : undefined;
  const isKnown = value === "" || options?.includes(value);
  return (
    <div class="act-field">
      <label for={id}>{texts.fields[field]}</label>
      {options ? (
        <select id={id} name={field}>
          <option value="">{field === "status" ? texts.anyStatus : texts.anyTime}</option>
          {[...options, ...(isKnown ? [] : [value])].map(option => (
            <option key={option} value={option}>
              {option}
            </option>
          ))}
        </select>
      ) : (
        <input id={id} name={field} type="text" autocomplete="off" spellcheck={false} dir="auto" />
      )}
    </div>
  );
}
