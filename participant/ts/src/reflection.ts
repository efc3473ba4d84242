// grpc.reflection.v1.ServerReflection, and v1alpha, which is the same. People and tools read the contracts from it.

import { status, type Server, type ServerDuplexStream } from "@grpc/grpc-js";
import protobuf from "protobufjs";
import type { Described, Descriptors } from "./descriptors.js";

const root = protobuf.Root.fromJSON({
  nested: {
    Request: {
      oneofs: {
        question: {
          oneof: ["fileByFilename", "fileContainingSymbol", "extension", "extensionNumbers", "listServices"],
        },
      },
      fields: {
        host: { type: "string", id: 1 },
        fileByFilename: { type: "string", id: 3 },
        fileContainingSymbol: { type: "string", id: 4 },
        extension: { type: "bytes", id: 5 },
        extensionNumbers: { type: "string", id: 6 },
        listServices: { type: "string", id: 7 },
      },
    },
    Response: {
      fields: {
        validHost: { type: "string", id: 1 },
        originalRequest: { type: "Request", id: 2 },
        files: { type: "Files", id: 4 },
        services: { type: "Services", id: 6 },
        error: { type: "Failure", id: 7 },
      },
    },
    Files: { fields: { encoded: { rule: "repeated", type: "bytes", id: 1 } } },
    Services: { fields: { service: { rule: "repeated", type: "Service", id: 1 } } },
    Service: { fields: { name: { type: "string", id: 1 } } },
    Failure: { fields: { code: { type: "int32", id: 1 }, message: { type: "string", id: 2 } } },
  },
});
const Request = root.lookupType("Request");
const Response = root.lookupType("Response");

interface Question {
  readonly host: string;
  readonly question?: "fileByFilename" | "fileContainingSymbol" | "extension" | "extensionNumbers" | "listServices";
  readonly fileByFilename: string;
  readonly fileContainingSymbol: string;
}

/** Serves reflection of the described services among those that are served. */
export function serveReflection(server: Server, descriptors: Descriptors, served: () => string[]): void {
  for (const version of ["v1", "v1alpha"]) {
    server.addService({
      ServerReflectionInfo: {
        path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        requestStream: true, responseStream: true,
        requestSerialize: (question: Question) => Buffer.from(Request.encode(Request.create(question)).finish()),
        requestDeserialize: (bytes: Buffer) => Request.decode(bytes) as unknown as Question,
        responseSerialize: (answer: object) => Buffer.from(Response.encode(Response.create(answer)).finish()),
        responseDeserialize: (bytes: Buffer) => Response.decode(bytes) as object,
      },
    }, {
      ServerReflectionInfo: (call: ServerDuplexStream<Question, object>) => {
        const sent = new Set<string>(); // the files that this stream has already sent
        call.on("data", (question: Question) => call.write({
          validHost: question.host, originalRequest: question, ...answer(question, descriptors, served, sent),
        }));
        call.on("end", () => call.end());
      },
    });
  }
}

function answer(question: Question, descriptors: Descriptors, served: () => string[], sent: Set<string>): object {
  switch (question.question) {
    case "listServices":
      return {
        services: { service: served().filter((name) => descriptors.describes(name)).map((name) => ({ name })) },
      };
    case "fileByFilename":
      return filesOf(descriptors.file(question.fileByFilename), question.fileByFilename, descriptors, sent);
    case "fileContainingSymbol":
      return filesOf(
        descriptors.declaring(question.fileContainingSymbol), question.fileContainingSymbol, descriptors, sent,
      );
    case "extension":
    case "extensionNumbers":
      return failure(status.NOT_FOUND, "extensions can't be asked for; their files can");
    default:
      return failure(status.INVALID_ARGUMENT, "want a question");
  }
}

/** Returns a file with those that it imports, directly or not. Those that were sent before are left out. */
function filesOf(file: Described | undefined, asked: string, descriptors: Descriptors, sent: Set<string>): object {
  if (file === undefined) return failure(status.NOT_FOUND, `${asked} isn't known here`);
  const encoded: Uint8Array[] = [];
  const queue: (Described | undefined)[] = [file];
  const seen = new Set<string>();
  for (const next of queue) {
    if (next === undefined || seen.has(next.name)) continue;
    seen.add(next.name);
    if (next === file || !sent.has(next.name)) encoded.push(next.encoded);
    sent.add(next.name);
    queue.push(...next.dependencies.map((name) => descriptors.file(name)));
  }
  return { files: { encoded } };
}

function failure(code: status, message: string): object {
  return { error: { code, message } };
}
