// What a service's contract says about its methods, as far as a participant must know it.

import { status } from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { defaultRules, type Rules } from "./inbox.js";
import { isRefusal } from "./status.js";

/** The part of a method's definition that a participant needs. Those of every generator for @grpc/grpc-js have it. */
export interface Method {
  /** "/package.Service/Method" */
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (reply: never) => Uint8Array;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

/** The definition of a service, by the names of its methods. */
export type Service = Readonly<Record<string, Method>>;

/** What the contract of a method says. */
export interface MethodContract extends Rules {
  /** Whether a handler may accept the command, or nobody knows, so that an OK must say that the command is done. */
  readonly completesLater: boolean;
  /** Whether a compensation undoes the command. Its request has that of the action in it. */
  readonly compensatable: boolean;
}

type Options = Readonly<Record<string, unknown>>;

function asOptions(value: unknown): Options {
  return typeof value === "object" && value !== null ? (value as Options) : {};
}

/**
 * Reads the contract of a method. @grpc/proto-loader keeps the options of methods. Definitions of other generators have
 * none, and then the defaults hold.
 */
export function contractOf(method: Method): MethodContract {
  const { options: known } = method as Method & { options?: unknown };
  const options = asOptions(known);
  const command = asOptions(options["(treaty.v1.command)"]);
  const compensation = asOptions(options["(treaty.v1.compensation)"]);
  const overrides = outcomesOf(command).concat(outcomesOf(compensation));
  return {
    ...defaultRules,
    completesLater: known === undefined || field(command, "complete_within") !== undefined,
    compensatable: field(command, "compensated_by") !== undefined,
    retriable: command["retriable"] !== undefined,
    refuses: (code) => {
      const override = overrides.find((o) => o["code"] === status[code]);
      return override === undefined ? isRefusal(code) : String(override["outcome"]) === "OUTCOME_REFUSED";
    },
  };
}

function outcomesOf(options: Options): Options[] {
  const { outcomes } = options;
  return outcomes === undefined ? [] : [outcomes].flat().map(asOptions);
}

/** Returns a field of an option, whose name has the case of the .proto file or that of JavaScript. */
function field(options: Options, name: string): unknown {
  return options[name] ?? options[name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())];
}

// The parts of google.protobuf.FileDescriptorProto that name the replies of methods.
const File = protobuf.Root.fromJSON({
  nested: {
    File: {
      fields: { package: { type: "string", id: 2 }, service: { rule: "repeated", type: "Service", id: 6 } },
    },
    Service: {
      fields: { name: { type: "string", id: 1 }, method: { rule: "repeated", type: "Method", id: 2 } },
    },
    Method: {
      fields: { name: { type: "string", id: 1 }, outputType: { type: "string", id: 3 } },
    },
  },
}).lookupType("File");

interface DecodedFile {
  readonly package: string;
  readonly service: readonly {
    readonly name: string;
    readonly method: readonly { readonly name: string; readonly outputType: string }[];
  }[];
}

/** Returns the full name of a method's reply, or undefined if its definition doesn't have the descriptors. */
export function replyTypeOf(method: Method): string | undefined {
  const { responseType } = method as Method & { responseType?: { fileDescriptorProtos?: readonly Buffer[] } };
  for (const encoded of responseType?.fileDescriptorProtos ?? []) {
    const file = File.decode(encoded) as unknown as DecodedFile;
    for (const service of file.service) {
      const fullName = file.package === "" ? service.name : `${file.package}.${service.name}`;
      const found = service.method.find(({ name }) => `/${fullName}/${name}` === method.path);
      if (found !== undefined) return found.outputType.replace(/^\./, "");
    }
  }
  return undefined;
}
