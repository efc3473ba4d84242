// The system's clock, in fractions of a millisecond.

/** What performance.now adds to. */
let origin = calibrated();

/** Returns the origin at the moment when Date.now changes, which is at most a millisecond away. */
function calibrated(): number {
  const before = Date.now();
  for (;;) {
    const wall = Date.now();
    if (wall !== before) return wall - performance.now();
  }
}

/**
 * Returns the time in milliseconds since 1970, with fractions. Date.now cuts them off. performance.timeOrigin is the
 * clock's time at the start of the process, and wrong once the clock was set. So Date.now corrects the result, which
 * always lies in its millisecond.
 */
export function nowMillis(): number {
  const passed = performance.now();
  const wall = Date.now();
  origin = Math.min(Math.max(origin, wall - passed), wall + 0.999 - passed);
  return origin + passed;
}

/** Returns the time in microseconds since 1970. */
export function nowMicros(): bigint {
  return BigInt(Math.floor(nowMillis() * 1000));
}
