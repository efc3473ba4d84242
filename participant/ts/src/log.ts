// The participant's log. It never has the content of a request.

/** How important a record is. */
export type Level = "INFO" | "WARN" | "ERROR";

/** Writes a record. */
export type Log = (level: Level, message: string, fields: Readonly<Record<string, unknown>>) => void;

/** Returns a log that writes JSON lines to standard error. */
export function jsonLog(service: string): Log {
  return (level, msg, fields) => {
    process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), level, msg, service, ...fields })}\n`);
  };
}
