/** The start of a text, and how many characters are left. A pair that makes one character is not cut in two. */
export function cutText(text: string, max: number): { shown: string; left: number } {
  if (text.length <= max) return { shown: text, left: 0 };
  const last = text.charCodeAt(max - 1);
  const end = last >= 0xd800 && last <= 0xdbff ? max - 1 : max;
  return { shown: text.slice(0, end), left: text.length - end };
}
