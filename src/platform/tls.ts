import { ReliableError, reasonOf } from "../errors";

/**
 * Node.js does not accept the server's certificate, or the server refuses ours, or it has no TLS. Other failures of a
 * handshake may be temporary.
 */
const LASTING =
  /^(CERT_|UNABLE_TO_(GET|VERIFY|DECRYPT|DECODE)_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_(CA|PURPOSE)|PATH_LENGTH_|HOSTNAME_MISMATCH|ERR_TLS_CERT_|ERR_OSSL_|ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|UNSUPPORTED_PROTOCOL|NO_|.*ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERT|ACCESS_DENIED|HANDSHAKE_FAILURE|PROTOCOL_VERSION)))/;

/**
 * The cause under the driver's error. MongoDB's driver keeps one per server, and all of them must be failures of this
 * kind.
 */
function lastingIn(thrown: unknown, depth = 5): Error | undefined {
  if (!(thrown instanceof Error) || depth === 0) return undefined;
  const { code, cause, reason, errors } = thrown as {
    code?: unknown;
    cause?: unknown;
    reason?: { servers?: Map<string, { error?: unknown }> };
    errors?: unknown[];
  };
  if (typeof code === "string" && LASTING.test(code)) return thrown;
  const all = reason?.servers ? [...reason.servers.values()].map(({ error }) => error) : (errors ?? [cause]);
  const found = all.map(each => lastingIn(each, depth - 1));
  return found.every(Boolean) ? found[0] : undefined;
}

/** RELIABLE_TLS_FAILED for a failure that the same configuration will always have; undefined for any other. */
export function tlsFailure(
  server: string,
  option: string,
  address: string,
  thrown: unknown
): ReliableError | undefined {
  const why = lastingIn(thrown);
  if (!why) return undefined;
  const text = `${server} at ${address}: no TLS connection: ${reasonOf(why)}. Check the certificate's chain, host names and dates, and the authority given in option \`${option}\` (\`tls: { ca }\`) or NODE_EXTRA_CA_CERTS.`;
  return new ReliableError(
    "RELIABLE_TLS_FAILED",
    text,
    { option, address, code: (why as { code?: unknown }).code },
    why
  );
}
