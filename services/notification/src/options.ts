// Parses the command line and refuses unsafe settings.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { anyCaller, type ListenOptions } from "@treatyhq/participant";

export class UsageError extends Error {}

export interface Options {
  readonly listen: ListenOptions;
  readonly db: string;
  readonly proto: string;
  readonly descriptors: string;
  readonly stopTimeoutMs: number;
  /** The identities of the orchestrators whose commands count. */
  readonly orchestrators: readonly string[];
}

export const help = `Usage of notification:
  --listen host:port       address to listen on; port 0 picks a free port (default 127.0.0.1:7105)
  --db file                SQLite database file; created if it doesn't exist (default notification.db)
  --proto directory        directory of the contracts (default: the one in this repository)
  --descriptors file       the same contracts as buf builds them, for reflection (default: those in this repository)
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

function inRepository(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

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
        proto: { type: "string", default: inRepository("proto") },
        descriptors: { type: "string", default: inRepository("gen/acme/notification/contracts.binpb") },
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
    listen: listening({
      address: values.listen, insecure: values.insecure,
      cert: values["tls-cert"], key: values["tls-key"], clientCa: values["tls-client-ca"],
    }),
    db: values.db,
    proto: values.proto,
    descriptors: values.descriptors,
    stopTimeoutMs: seconds * 1000,
    orchestrators: identities.length === 0 && values.insecure ? [anyCaller] : identities,
  };
}

interface Transport {
  address: string;
  insecure: boolean;
  cert: string | undefined;
  key: string | undefined;
  clientCa: string | undefined;
}

function listening({ address, insecure, cert, key, clientCa }: Transport): ListenOptions {
  if ((cert === undefined) !== (key === undefined)) {
    throw new UsageError("--tls-cert and --tls-key belong together: set both or neither");
  }
  if (cert === undefined || key === undefined) {
    if (clientCa !== undefined) throw new UsageError("--tls-client-ca requires --tls-cert and --tls-key");
    return { address, insecure };
  }
  if (insecure) throw new UsageError("--insecure and --tls-cert contradict each other: set only one of them");
  const clientAuthorities = clientCa === undefined ? {} : { clientAuthorities: readFileSync(clientCa) };
  return { address, tls: { certificate: readFileSync(cert), key: readFileSync(key), ...clientAuthorities } };
}
