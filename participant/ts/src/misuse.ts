// Mistakes of handlers that would break the promises of the inbox.

/** A mistake of a handler. The caller gets INTERNAL with its text, which has nothing of the request. */
export class Misuse extends Error {
  override readonly name: string = "Misuse";

  constructor(handler: string, what: string) {
    super(`the handler of ${handler.replace(/^\//, "")} ${what}`);
  }
}
