import assert from "node:assert/strict";
import { test } from "node:test";
import { nowMicros, nowMillis } from "./clock.js";

/** Checks that the time lies in the millisecond of the system's clock. */
function follows(): void {
  const before = Date.now();
  const millis = nowMillis();
  const micros = Number(nowMicros() / 1000n);
  const after = Date.now();
  assert.ok(before <= millis && millis < after + 1, `${millis} isn't between ${before} and ${after + 1}`);
  assert.ok(before <= micros && micros <= after, `${micros} isn't between ${before} and ${after}`);
}

test("the clock follows the system's, also when that was set", (t) => {
  follows();
  const { now } = Date;
  for (const [ahead, what] of [[3_600_000, "forwards"], [-3_600_000, "backwards"], [3, "a little"]] as const) {
    const mocked = t.mock.method(Date, "now", () => now() + ahead);
    t.diagnostic(`the clock is set ${what}`);
    follows();
    mocked.mock.restore();
    follows();
  }
});

test("two times in a row don't decrease, and soon differ", () => {
  let last = nowMicros();
  let different = 0;
  for (let i = 0; i < 10_000; i++) {
    const next = nowMicros();
    assert.ok(next >= last, `${next} follows ${last}`);
    if (next !== last) different++;
    last = next;
  }
  assert.ok(different > 10, `only ${different} of 10,000 times differ`);
});
