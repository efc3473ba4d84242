// Marks the answer to a method that isn't served as the participant's own. Without the mark, an orchestrator could take
// it for a proxy's, and a command for a method that isn't served yet would stay in doubt.

import { status, type Server, type ServerDuplexStream } from "@grpc/grpc-js";
import { response, StatusError } from "./status.js";

type Call = ServerDuplexStream<Buffer, Buffer>;

/**
 * Makes a server answer methods that it doesn't serve with UNIMPLEMENTED and the mark of an attempt, or with the
 * StatusError that check throws. Services may be added before and afterwards.
 *
 * The library answers them before any interceptor runs, and without a hook. So this replaces the look-up in its map of
 * handlers, which isn't part of its API. A test makes such calls.
 */
export function answerUnknownMethods(server: Server, check: (call: Call) => void): void {
  const { handlers } = server as unknown as { handlers: unknown };
  if (!(handlers instanceof Map)) {
    throw new Error("this version of @grpc/grpc-js keeps its handlers in another way: install version 1.14");
  }
  const served = handlers.get.bind(handlers);
  const same = (message: Buffer) => message;
  const func = (call: Call) => refuse(call, check);
  handlers.get = (path) => served(path) ?? { func, serialize: same, deserialize: same, type: "bidi", path };
}

/** Answers a call of any kind. Its messages aren't read. */
function refuse(call: Call, check: (call: Call) => void): void {
  let refusal = new StatusError(status.UNIMPLEMENTED, `this participant doesn't serve the method ${call.getPath()}`);
  try {
    check(call);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    refusal = error;
  }
  call.emit("error", response(refusal.encoded, "attempt"));
}
