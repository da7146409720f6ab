import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createServer } from "node:tls";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";

const run = promisify(execFile);

/** A folder with `ca.pem` (the root), `chain.pem` (server and intermediate) and `key.pem`. */
export interface Certificates {
  folder: string;
  /** The root's certificate, which a client must be given. */
  ca: string;
}

interface Wish {
  /** @default localhost and 127.0.0.1 */
  names?: string;
  /** Of the server's certificate; negative: expired since then. @default 2 */
  days?: number;
}

/** Root → intermediate → server, made by `openssl` for one test and gone after it. */
export async function certificates({
  names = "DNS:localhost,IP:127.0.0.1",
  days = 2
}: Wish = {}): Promise<Certificates> {
  const folder = await mkdtemp(path.join(tmpdir(), "reliable-tls-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const at = (file: string) => path.join(folder, file);
  const openssl = (...args: string[]) => run("openssl", args, { cwd: folder });
  await mkdir(at("db"));
  await writeFile(at("db/index.txt"), "");
  const stamp = (date: Date) => `${date.toISOString().replace(/[-:T]|\.\d+/g, "")}`;
  const day = 86_400_000;
  await writeFile(
    at("openssl.cnf"),
    `
[ca]
default_ca = here
[here]
database = db/index.txt
new_certs_dir = db
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = ${names}
`
  );
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config", "openssl.cnf"];
  await openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    "root.key",
    "-out",
    "ca.pem",
    "-subj",
    "/CN=test root",
    "-days",
    "30",
    "-extensions",
    "root"
  );
  const sign = async (name: string, by: [string, string], until: number) => {
    await openssl("req", "-new", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=test ${name}`);
    const [from, to] = [Date.now() - 10 * day, Date.now() + until * day].map(
      ms => `${stamp(new Date(ms)).slice(0, 14)}Z`
    );
    await openssl(
      "ca",
      "-batch",
      "-notext",
      "-config",
      "openssl.cnf",
      "-cert",
      by[0],
      "-keyfile",
      by[1],
      "-in",
      `${name}.csr`,
      "-out",
      `${name}.pem`,
      "-extensions",
      name,
      "-startdate",
      from as string,
      "-enddate",
      to as string
    );
  };
  await sign("intermediate", ["ca.pem", "root.key"], 30);
  await sign("server", ["intermediate.pem", "intermediate.key"], days);
  await writeFile(
    at("chain.pem"),
    (await readFile(at("server.pem"), "utf8")) + (await readFile(at("intermediate.pem"), "utf8"))
  );
  await writeFile(at("key.pem"), await readFile(at("server.key")));
  return { folder, ca: await readFile(at("ca.pem"), "utf8") };
}

/** Ends TLS before a server that has none, or has another certificate. Returns its port. */
export async function terminator({ folder }: Certificates, to: string): Promise<number> {
  const { hostname: host, port } = new URL(to);
  const open = new Set<{ destroy(): void }>();
  const server = createServer(
    { cert: await readFile(path.join(folder, "chain.pem")), key: await readFile(path.join(folder, "key.pem")) },
    client => {
      const upstream = connect({ host, port: Number(port), noDelay: true });
      for (const [from, into] of [
        [client, upstream],
        [upstream, client]
      ] as const) {
        open.add(from);
        from.on("error", () => undefined);
        from.on("close", () => into.destroy());
        from.pipe(into);
      }
    }
  );
  server.on("tlsClientError", () => undefined);
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    return new Promise<void>(resolve => void server.close(() => resolve()));
  });
  return (server.address() as { port: number }).port;
}
