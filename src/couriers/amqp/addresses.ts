import { ReliableError } from "../../errors";

/** One broker host to try. `url` and `login` hold credentials and must not be logged; `label` is for humans. */
export interface BrokerAddress {
  url: string;
  /**
   * User and password without encoding: amqplib reads them from a URL as Latin-1, so that any letter outside of ASCII
   * is refused.
   */
  login?: [user: string, password: string];
  label: string;
}

/** Several hosts: an array, or one string separated by `;` or `,` (a comma inside a password must be written `%2C`). */
export function parseAddresses(urls: string | string[], heartbeatS: number): BrokerAddress[] {
  const given = (Array.isArray(urls) ? urls : [urls]).flatMap(entry =>
    typeof entry === "string" ? entry.split(/[;,](?=\s*(?:amqps?:|$))/) : [entry]
  );
  const texts = given.map(entry => (typeof entry === "string" ? entry.trim() : entry)).filter(entry => entry !== "");
  if (texts.length === 0)
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      "Option `amqp` holds no address; expected something like amqp://user:password@host:5672/vhost.",
      { option: "amqp" }
    );
  return texts.map((text, index) => parseAddress(text, index, texts.length, heartbeatS));
}

function parseAddress(text: unknown, index: number, count: number, heartbeatS: number): BrokerAddress {
  // The text is never quoted: an address that cannot be parsed cannot be masked either.
  const which = count > 1 ? `Address ${index + 1} of option \`amqp\`` : "The address in option `amqp`";
  const bad = (why: string) =>
    new ReliableError(
      "RELIABLE_BAD_OPTION",
      `${which} ${why}; expected something like amqp://user:password@host:5672/vhost.`,
      { option: "amqp", index }
    );
  if (typeof text !== "string") throw bad("is not a string");
  if (!URL.canParse(text)) throw bad("is not a URL (special characters in user and password must be percent-encoded)");
  const url = new URL(text);
  if (url.protocol !== "amqp:" && url.protocol !== "amqps:") throw bad("does not start with amqp:// or amqps://");
  if (!url.hostname) throw bad("names no host");
  // amqplib decodes them and throws a bare URIError inside its handshake.
  for (const part of [url.username, url.password, url.pathname]) {
    try {
      decodeURIComponent(part);
    } catch {
      throw bad("has a broken percent-encoding");
    }
  }
  if (!url.searchParams.has("heartbeat")) url.searchParams.set("heartbeat", String(heartbeatS));
  const port = url.port || (url.protocol === "amqps:" ? "5671" : "5672");
  const login = (url.username || url.password) && {
    login: [decodeURIComponent(url.username), decodeURIComponent(url.password)] as [string, string]
  };
  return { url: url.href, ...login, label: `${url.hostname}:${port}` };
}
