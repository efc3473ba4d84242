// The commands and reads of the notification service.

import { randomUUID } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { StatusError, type Database, type Tx } from "@treatyhq/participant";

/** The recipient of a message. All requests to send one contain it. */
interface Recipient {
  customer: string;
  display_name: string;
  email: string;
}

export interface SendWelcomeRequest extends Recipient {
  card_last_four: string;
}

export interface SendReviewRequest extends Recipient {
  approved_limit_cents: string;
}

export interface Timestamp {
  seconds: string;
  nanos: number;
}

/** The reply to all requests to send a message. */
export interface Sent {
  message: string;
  send_time: Timestamp;
}

export interface ListMessagesRequest {
  page_size: number;
  page_token: string;
  customer: string;
}

export interface ListMessagesResponse {
  messages: { name: string; customer: string; email: string; subject: string; text: string; send_time: Timestamp }[];
  next_page_token: string;
}

/** Sends a message by adding it to the outbox of a mail server, which is the table of messages. */
export function sendWelcome({ database, command }: Tx, r: SendWelcomeRequest): Sent {
  if (command?.direction === "compensation") {
    throw new StatusError(status.FAILED_PRECONDITION, "a sent message can't be recalled");
  }
  check(r);
  const card = r.card_last_four === "" ? "" : ` Your card ending in ${r.card_last_four} is on its way.`;
  return send(database, r, "Welcome to Acme", `Dear ${r.display_name}, welcome to Acme.${card}`);
}

/** Sends a message about a review. */
export function sendReview({ database }: Tx, r: SendReviewRequest): Sent {
  check(r);
  const cents = BigInt(r.approved_limit_cents);
  if (cents < 0n) throw invalid("approved_limit_cents: want 0 or more");
  const limit = cents === 0n ? "" : ` You could have a limit of up to ${cents / 100n} euros.`;
  return send(database, r, "Your review at Acme", `Dear ${r.display_name}, thank you for being with Acme.${limit}`);
}

function check(to: Recipient): void {
  if (!customerName.test(to.customer)) throw invalid("customer: want customers/{customer}");
  if (!/^[^@\s]+@[^@\s]+$/.test(to.email) || Buffer.byteLength(to.email) > 254) {
    throw invalid("email: want an address like ada@example.com");
  }
  if (to.display_name.trim() === "" || Buffer.byteLength(to.display_name) > 200) {
    throw invalid("display_name: want 1 to 200 bytes");
  }
}

function send(database: Database, to: Recipient, subject: string, text: string): Sent {
  // A saga in flight may still send a command about a forgotten customer.
  if (database.get("SELECT 1 FROM forgotten WHERE customer = ?", [to.customer]) !== undefined) {
    throw new StatusError(status.FAILED_PRECONDITION, "the customer was forgotten");
  }
  const name = `messages/${randomUUID()}`;
  const sent = BigInt(Date.now()) * 1000n;
  database.run("INSERT INTO messages (name, customer, email, subject, text, send_time) VALUES (?, ?, ?, ?, ?, ?)", [
    name, to.customer, to.email, subject, text, sent,
  ]);
  return { message: name, send_time: timestamp(sent) };
}

const defaultPageSize = 50;
const maxPageSize = 1000;

/** Lists messages, oldest first. */
export function listMessages(database: Database, r: ListMessagesRequest): ListMessagesResponse {
  if (r.page_size < 0) throw invalid(`page_size: want 0 (for the default) to ${maxPageSize}, got ${r.page_size}`);
  const size = Math.min(r.page_size || defaultPageSize, maxPageSize);
  const after = r.page_token === "" ? 0 : sequenceOf(r);
  const rows = database.all(
    `SELECT sequence, name, customer, email, subject, text, send_time FROM messages
     WHERE sequence > ?1 AND (?2 = '' OR customer = ?2) ORDER BY sequence LIMIT ?3`,
    [after, r.customer, size + 1],
  ) as unknown as MessageRow[];
  const page = rows.slice(0, size);
  const last = page.at(-1);
  return {
    messages: page.map(({ sequence: _, send_time, ...message }) => {
      return { ...message, send_time: timestamp(BigInt(send_time)) };
    }),
    next_page_token: rows.length > size && last !== undefined ? tokenAfter(last.sequence, r.customer) : "",
  };
}

interface MessageRow {
  sequence: number;
  name: string;
  customer: string;
  email: string;
  subject: string;
  text: string;
  send_time: number | bigint;
}

function tokenAfter(sequence: number, customer: string): string {
  return Buffer.from(JSON.stringify([sequence, customer])).toString("base64url");
}

function sequenceOf(r: ListMessagesRequest): number {
  try {
    const [sequence, customer] = JSON.parse(Buffer.from(r.page_token, "base64url").toString("utf8")) as unknown[];
    if (Number.isSafeInteger(sequence) && customer === r.customer) return sequence as number;
  } catch {
    // Handled below.
  }
  throw invalid("page_token: want a token that this method has returned for these fields");
}

function timestamp(micros: bigint): Timestamp {
  return { seconds: String(micros / 1_000_000n), nanos: Number(micros % 1_000_000n) * 1000 };
}

/** The form of a customer's name. */
export const customerName = /^customers\/.{1,90}$/;

/** Returns the refusal of an invalid request. */
export function invalid(message: string): StatusError {
  return new StatusError(status.INVALID_ARGUMENT, message);
}
