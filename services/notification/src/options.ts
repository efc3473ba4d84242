// The command line, and whether it is safe.

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ServerCredentials } from "@grpc/grpc-js";

export class UsageError extends Error {}

export interface Options {
  readonly listen: string;
  readonly db: string;
  readonly proto: string;
  readonly stopTimeoutMs: number;
  readonly credentials: ServerCredentials;
}

export const help = `Usage of notification:
  --listen host:port       address to listen on; port 0 takes a free one (default 127.0.0.1:7105)
  --db file                SQLite database; created when it isn't there (default notification.db)
  --proto directory        where the contracts are (default: those of this repository)
  --tls-cert file          the server's certificate chain (PEM)
  --tls-key file           the server's private key (PEM)
  --tls-client-ca file     the authorities of clients' certificates (PEM); turns on mTLS
  --insecure               allow plaintext beyond loopback: anybody on the way can read, change and send commands
  --stop-timeout seconds   how long calls under way may take to end on SIGTERM (default 10)
`;

/** Parses and checks the arguments; undefined when they ask for help. */
export function parseOptions(args: string[]): Options | undefined {
  let values;
  try {
    ({ values } = parseArgs({
      args: args.map((a) => (/^-[a-z]{2,}/.test(a) ? `-${a}` : a)),
      options: {
        help: { type: "boolean" },
        listen: { type: "string", default: "127.0.0.1:7105" },
        db: { type: "string", default: "notification.db" },
        proto: { type: "string", default: fileURLToPath(new URL("../../../proto", import.meta.url)) },
        "tls-cert": { type: "string" },
        "tls-key": { type: "string" },
        "tls-client-ca": { type: "string" },
        insecure: { type: "boolean", default: false },
        "stop-timeout": { type: "string", default: "10" },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (values.help) return undefined;
  const seconds = Number(values["stop-timeout"].replace(/s$/, ""));
  if (!(seconds > 0 && seconds <= 3600)) throw new UsageError(`--stop-timeout ${values["stop-timeout"]}: want seconds, e.g. 10`);
  return {
    listen: values.listen,
    db: values.db,
    proto: values.proto,
    stopTimeoutMs: seconds * 1000,
    credentials: credentials(values.listen, values["tls-cert"], values["tls-key"], values["tls-client-ca"], values.insecure),
  };
}

function credentials(listen: string, cert: string | undefined, key: string | undefined, clientCa: string | undefined, insecure: boolean): ServerCredentials {
  const host = /^(?:\[(.+)\]|([^:]*)):(\d{1,5})$/.exec(listen);
  if (host === null) throw new UsageError(`--listen ${listen}: want host:port, e.g. 127.0.0.1:7105`);
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--tls-cert and --tls-key belong together: give both or neither");
  if (cert !== undefined && key !== undefined) {
    if (insecure) throw new UsageError("--insecure and --tls-cert contradict each other: give one of them");
    const ca = clientCa === undefined ? null : readFileSync(clientCa);
    return ServerCredentials.createSsl(ca, [{ cert_chain: readFileSync(cert), private_key: readFileSync(key) }], ca !== null);
  }
  if (clientCa !== undefined) throw new UsageError("--tls-client-ca needs --tls-cert and --tls-key");
  const name = host[1] ?? host[2] ?? "";
  const loopback = name === "localhost" || name === "::1" || (isIPv4(name) && name.startsWith("127."));
  if (!loopback && !insecure) {
    throw new UsageError(`listening on ${listen}: plaintext is allowed on loopback addresses only: give --tls-cert and --tls-key, or --insecure to let anybody read, change and send commands`);
  }
  return ServerCredentials.createInsecure();
}
