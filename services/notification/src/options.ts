// Parses the command line and refuses unsafe settings.

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ServerCredentials } from "@grpc/grpc-js";
import { anyCaller, Trust } from "./trust.js";

export class UsageError extends Error {}

export interface Options {
  readonly listen: string;
  readonly db: string;
  readonly proto: string;
  readonly stopTimeoutMs: number;
  readonly credentials: ServerCredentials;
  /** Whose commands count. */
  readonly trust: Trust;
}

export const help = `Usage of notification:
  --listen host:port       address to listen on; port 0 picks a free port (default 127.0.0.1:7105)
  --db file                SQLite database file; created if it doesn't exist (default notification.db)
  --proto directory        directory of the contracts (default: the one in this repository)
  --tls-cert file          the server's certificate chain (PEM)
  --tls-key file           the server's private key (PEM)
  --tls-client-ca file     the authorities that issue client certificates (PEM); turns on mutual TLS
  --orchestrator-identity identity
                           believe only orchestrators whose client certificate has this URI, such as a SPIFFE id, or
                           DNS name; * for every caller; repeat it for each one (default: every caller with a
                           certificate of --tls-client-ca, every caller with --insecure, otherwise this machine)
  --insecure               allow plaintext beyond loopback: anybody on the network can read, change and send commands
  --stop-timeout seconds   how long calls in flight may take to finish after SIGTERM (default 10)
`;

/** Parses and checks the arguments. Returns undefined if they contain --help. */
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
        "orchestrator-identity": { type: "string", multiple: true, default: [] },
        insecure: { type: "boolean", default: false },
        "stop-timeout": { type: "string", default: "10" },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (values.help) return undefined;
  const seconds = Number(values["stop-timeout"].replace(/s$/, ""));
  if (!(seconds > 0 && seconds <= 3600)) {
    throw new UsageError(`--stop-timeout ${values["stop-timeout"]}: want seconds, e.g. 10`);
  }
  const identities = values["orchestrator-identity"];
  if (identities.includes("")) {
    throw new UsageError("--orchestrator-identity is empty: want a URI such as a SPIFFE id, or a DNS name");
  }
  if (identities.length > 0 && !identities.includes(anyCaller) && values["tls-client-ca"] === undefined) {
    throw new UsageError(
      "--orchestrator-identity requires --tls-client-ca: a caller needs a certificate to be known",
    );
  }
  return {
    listen: values.listen,
    db: values.db,
    proto: values.proto,
    stopTimeoutMs: seconds * 1000,
    // With --tls-client-ca, every caller has a certificate of that authority.
    trust: new Trust(identities, values.insecure || values["tls-client-ca"] !== undefined),
    credentials: credentials({
      listen: values.listen, insecure: values.insecure,
      cert: values["tls-cert"], key: values["tls-key"], clientCa: values["tls-client-ca"],
    }),
  };
}

interface Transport {
  listen: string;
  insecure: boolean;
  cert: string | undefined;
  key: string | undefined;
  clientCa: string | undefined;
}

function credentials({ listen, insecure, cert, key, clientCa }: Transport): ServerCredentials {
  const host = /^(?:\[(.+)\]|([^:]*)):(\d{1,5})$/.exec(listen);
  if (host === null) throw new UsageError(`--listen ${listen}: want host:port, e.g. 127.0.0.1:7105`);
  if ((cert === undefined) !== (key === undefined)) {
    throw new UsageError("--tls-cert and --tls-key belong together: set both or neither");
  }
  if (cert !== undefined && key !== undefined) {
    if (insecure) throw new UsageError("--insecure and --tls-cert contradict each other: set only one of them");
    const ca = clientCa === undefined ? null : readFileSync(clientCa);
    const pair = { cert_chain: readFileSync(cert), private_key: readFileSync(key) };
    return ServerCredentials.createSsl(ca, [pair], ca !== null);
  }
  if (clientCa !== undefined) throw new UsageError("--tls-client-ca requires --tls-cert and --tls-key");
  const name = host[1] ?? host[2] ?? "";
  const loopback = name === "localhost" || name === "::1" || (isIPv4(name) && name.startsWith("127."));
  if (!loopback && !insecure) {
    throw new UsageError(
      `listening on ${listen}: plaintext is allowed on loopback addresses only: set --tls-cert and --tls-key, ` +
        "or --insecure to let anybody on the network read, change and send commands",
    );
  }
  return ServerCredentials.createInsecure();
}
