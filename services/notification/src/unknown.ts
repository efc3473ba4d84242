// Marks the answer to a method that isn't served as the participant's own. Without the mark, an orchestrator could take
// it for a proxy's, and a command for a method that isn't served yet would stay in doubt.

import { status, type Server, type ServerDuplexStream } from "@grpc/grpc-js";
import { Refusal, response } from "./status.js";

type Call = ServerDuplexStream<Buffer, Buffer>;

/**
 * Makes a server answer methods that it doesn't serve with UNIMPLEMENTED and the mark of an attempt, or with the
 * Refusal that check throws. Call it after all services were added.
 *
 * The library answers them before any interceptor runs, and without a hook. So this replaces the look-up in its map of
 * handlers, which isn't part of its API. Its version is pinned, and a test makes such calls.
 */
export function answerUnknownMethods(server: Server, check: (call: Call) => void): void {
  const { handlers } = server as unknown as { handlers: Map<string, unknown> };
  const served = handlers.get.bind(handlers);
  const same = (message: Buffer) => message;
  const func = (call: Call) => refuse(call, check);
  handlers.get = (path) => served(path) ?? { func, serialize: same, deserialize: same, type: "bidi", path };
}

/** Answers a call of any kind. Its messages aren't read. */
function refuse(call: Call, check: (call: Call) => void): void {
  let refusal = new Refusal(status.UNIMPLEMENTED, `this participant doesn't serve the method ${call.getPath()}`);
  try {
    check(call);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refusal = error;
  }
  call.emit("error", response(refusal.encoded, "attempt"));
}
