import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAlternatives } from "./trust.js";

test("alternative names", () => {
  const parsed = (text: string) => parseAlternatives(text)?.map(({ kind, value }) => `${kind}=${value}`);
  assert.deepEqual(parsed(""), []);
  assert.deepEqual(parsed("DNS:a.example, IP Address:127.0.0.1, URI:spiffe://a/b"), [
    "DNS=a.example", "IP Address=127.0.0.1", "URI=spiffe://a/b",
  ]);
  // One name that looks like two.
  assert.deepEqual(parsed('URI:"spiffe://a/b, DNS:sagas.example"'), ["URI=spiffe://a/b, DNS:sagas.example"]);
  assert.deepEqual(parsed('DNS:"a\\"b, DNS:sagas.example"'), ['DNS=a"b, DNS:sagas.example']);
  for (const bad of ['DNS:"a', "nonsense", "DNS:a.example,DNS:b.example", 'DNS:a"b']) {
    assert.equal(parsed(bad), undefined, bad);
  }
});
