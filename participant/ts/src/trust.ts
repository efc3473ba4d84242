// Whose commands count. The rules are the same for every participant; see docs/participants.md.

import { X509Certificate } from "node:crypto";
import { status, type ServerUnaryCall } from "@grpc/grpc-js";
import { because } from "./status.js";

/** Among the identities: every caller is believed, with or without a certificate. */
export const anyCaller = "*";

/** What a call says about its caller. */
export type Caller = Pick<ServerUnaryCall<unknown, unknown>, "getAuthContext" | "getPeer">;

/** Says whose commands this participant believes. */
export class Trust {
  /**
   * Believes callers whose verified client certificate has one of the identities: a URI such as a SPIFFE id, or a DNS
   * name. Without identities, it believes callers with any verified client certificate, and callers on this machine.
   */
  constructor(private readonly identities: readonly string[]) {}

  /**
   * Throws UNAUTHENTICATED if the caller isn't believed. Such a call isn't executed as an ordinary call either, since
   * that would bypass the inbox.
   */
  check(call: Caller): void {
    if (this.believes(call)) return;
    const message = "the caller isn't an orchestrator that this participant believes";
    throw because(status.UNAUTHENTICATED, "CALLER_NOT_BELIEVED", message);
  }

  private believes(call: Caller): boolean {
    if (this.identities.includes(anyCaller)) return true;
    const certificate = call.getAuthContext().sslPeerCertificate; // only one that was verified
    if (this.identities.length === 0) {
      return certificate !== undefined || /^(127\.|\[?::1\]?:|\[?::ffff:127\.|unix:)/.test(call.getPeer());
    }
    if (certificate === undefined) return false;
    return identitiesOf(new X509Certificate(certificate.raw)).some((own) => this.identities.some((identity) =>
      own === identity || (!own.includes(":") && own.toLowerCase() === identity.toLowerCase())));
  }
}

/**
 * Returns the identities of a certificate: its URIs and DNS names. The subject's common name is one only if there is
 * neither, since authorities check it less strictly. A name with a colon is none, since it could pass for a URI.
 */
export function identitiesOf(certificate: X509Certificate): string[] {
  const alternatives = parseAlternatives(certificate.subjectAltName ?? "");
  if (alternatives === undefined) return [];
  const of = (kind: string) => alternatives.filter((a) => a.kind === kind).map((a) => a.value);
  const uris = of("URI");
  let names = of("DNS");
  if (uris.length === 0 && names.length === 0) {
    const common: unknown = certificate.toLegacyObject().subject.CN;
    names = typeof common === "string" ? [common] : [];
  }
  return [...uris.filter((uri) => uri.includes(":")), ...names.filter((name) => name !== "" && !name.includes(":"))];
}

/**
 * Parses the text that Node makes of the alternative names, such as "DNS:a.example, URI:spiffe://a/b". A value that
 * could be mistaken for several is a JSON string. Returns undefined for anything else.
 */
export function parseAlternatives(text: string): { kind: string; value: string }[] | undefined {
  const found: { kind: string; value: string }[] = [];
  const entry = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y;
  while (entry.lastIndex < text.length) {
    const match = entry.exec(text);
    if (match === null) return undefined;
    const [, kind = "", value = ""] = match;
    found.push({ kind, value: value.startsWith('"') ? (JSON.parse(value) as string) : value });
  }
  return found;
}
