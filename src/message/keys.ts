import { hasControl } from "../platform/printable";

/** Of one message, and of its keys in characters: they stand in a row, an index and a header, and are typed by people. */
export const MAX_KEYS = 5;
export const MAX_KEY_NAME = 30;
export const MAX_KEY_VALUE = 100;

/** `name=value`: the value may have further signs of that kind. */
export function keyText(name: string, value: string | number): string {
  return `${name}=${value}`;
}

/** Why no message can have this key, as the end of a sentence. */
export function keyFault(key: unknown): string | undefined {
  if (typeof key !== "string") return "is not text";
  const at = key.indexOf("=");
  if (at < 0) return "is not of the form name=value";
  return nameFault(key.slice(0, at)) ?? valueFault(key.slice(at + 1));
}

/** By code points, as a JSON schema and other languages count. */
function isLonger(text: string, max: number): boolean {
  return text.length > max && (text.length > 2 * max || [...text].length > max);
}

export function nameFault(name: string): string | undefined {
  if (name.trim() === "") return "has no name";
  if (name.includes("=")) return "has a name with '='";
  if (isLonger(name, MAX_KEY_NAME)) return `has a name of more than ${MAX_KEY_NAME} characters`;
  return hasControl(name) ? "has a name with control characters" : undefined;
}

export function valueFault(value: unknown): string | undefined {
  if (typeof value === "number" ? !Number.isFinite(value) : typeof value !== "string")
    return "has a value that is neither text nor a finite number";
  const text = String(value);
  if (text.trim() === "") return "has no value";
  if (isLonger(text, MAX_KEY_VALUE)) return `has a value of more than ${MAX_KEY_VALUE} characters`;
  return hasControl(text) ? "has a value with control characters" : undefined;
}
