// The descriptors of the contracts, as protoc or buf made them. They have the options and the imports.

import { createHash } from "node:crypto";
import protobuf from "protobufjs";

// The parts of google.protobuf.FileDescriptorSet that name what is in it.
const named = { name: { type: "string", id: 1 } };
const root = protobuf.Root.fromJSON({
  nested: {
    Set: { fields: { file: { rule: "repeated", type: "bytes", id: 1 } } },
    File: {
      fields: {
        ...named, package: { type: "string", id: 2 }, dependency: { rule: "repeated", type: "string", id: 3 },
        messageType: { rule: "repeated", type: "Message", id: 4 }, enumType: { rule: "repeated", type: "Named", id: 5 },
        service: { rule: "repeated", type: "Service", id: 6 }, extension: { rule: "repeated", type: "Named", id: 7 },
      },
    },
    Message: {
      fields: {
        ...named, field: { rule: "repeated", type: "Named", id: 2 },
        nestedType: { rule: "repeated", type: "Message", id: 3 }, enumType: { rule: "repeated", type: "Named", id: 4 },
        extension: { rule: "repeated", type: "Named", id: 6 },
      },
    },
    Service: { fields: { ...named, method: { rule: "repeated", type: "Named", id: 2 } } },
    Named: { fields: named },
  },
});

interface Named {
  readonly name: string;
}

interface Message extends Named {
  readonly field: readonly Named[];
  readonly nestedType: readonly Message[];
  readonly enumType: readonly Named[];
  readonly extension: readonly Named[];
}

interface File extends Named {
  readonly package: string;
  readonly dependency: readonly string[];
  readonly messageType: readonly Message[];
  readonly enumType: readonly Named[];
  readonly service: readonly (Named & { readonly method: readonly Named[] })[];
  readonly extension: readonly Named[];
}

/** A .proto file. */
export interface Described {
  readonly name: string;
  /** The serialized google.protobuf.FileDescriptorProto. */
  readonly encoded: Uint8Array;
  readonly dependencies: readonly string[];
}

/** The files of a google.protobuf.FileDescriptorSet, by their names and by what they declare. */
export class Descriptors {
  private readonly files = new Map<string, Described>();
  private readonly symbols = new Map<string, Described>();
  private readonly described = new Set<string>();

  /** Throws an error if the set can't be read, or lacks a file that another one imports. */
  constructor(encoded: Uint8Array) {
    try {
      for (const bytes of (root.lookupType("Set").decode(encoded) as unknown as { file: Uint8Array[] }).file) {
        this.add(bytes);
      }
    } catch (error) {
      throw new Error(
        `reading the descriptors: ${error instanceof Error ? error.message : String(error)}; want the output of ` +
          '"buf build --as-file-descriptor-set" or "protoc --include_imports --descriptor_set_out"',
      );
    }
    for (const { name, dependencies } of this.files.values()) {
      const missing = dependencies.find((dependency) => !this.files.has(dependency));
      if (missing === undefined) continue;
      throw new Error(`reading the descriptors: ${name} imports ${missing}, which isn't there; include the imports`);
    }
  }

  private add(encoded: Uint8Array): void {
    const file = root.lookupType("File").decode(encoded) as unknown as File;
    const described = { name: file.name, encoded, dependencies: file.dependency };
    this.files.set(file.name, described);
    const within = (parent: string, { name }: Named) => (parent === "" ? name : `${parent}.${name}`);
    const declare = (parent: string, declared: readonly Named[]) => {
      for (const one of declared) this.symbols.set(within(parent, one), described);
    };
    const descend = (parent: string, messages: readonly Message[]) => {
      declare(parent, messages);
      for (const message of messages) {
        const name = within(parent, message);
        for (const declared of [message.field, message.enumType, message.extension]) declare(name, declared);
        descend(name, message.nestedType);
      }
    };
    descend(file.package, file.messageType);
    for (const declared of [file.enumType, file.extension, file.service]) declare(file.package, declared);
    for (const service of file.service) {
      const name = within(file.package, service);
      this.described.add(name);
      declare(name, service.method);
    }
  }

  /** Returns the file with a name. */
  file(name: string): Described | undefined {
    return this.files.get(name);
  }

  /** Returns the file that declares a symbol, by its full name. */
  declaring(symbol: string): Described | undefined {
    return this.symbols.get(symbol);
  }

  /** Reports whether a service is described. */
  describes(service: string): boolean {
    return this.described.has(service);
  }

  /**
   * Returns the SHA-256 of the files that declare services, with their direct and indirect imports except those of
   * google.protobuf, in hex. The Go library computes it in the same way. It is empty if a service isn't described.
   */
  digest(services: readonly string[]): string {
    const files = services.map((service) => this.symbols.get(service));
    if (files.includes(undefined)) return "";
    const unique = new Map<string, Uint8Array>();
    const add = (file: Described | undefined): void => {
      if (file === undefined || unique.has(file.name) || file.name.startsWith("google/protobuf/")) return;
      unique.set(file.name, file.encoded);
      for (const dependency of file.dependencies) add(this.files.get(dependency));
    };
    files.forEach(add);
    const hash = createHash("sha256");
    for (const name of [...unique.keys()].sort()) hash.update(unique.get(name) ?? "");
    return hash.digest("hex");
  }
}
