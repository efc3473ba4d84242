// Copies the contracts of treaty.v1 into the package. Files that are the same aren't written, since a participant that
// is starting may be reading them.
import { mkdirSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const from = new URL("../../proto/treaty/v1/", import.meta.url);
const to = new URL("proto/treaty/v1/", import.meta.url);
mkdirSync(to, { recursive: true });
for (const name of readdirSync(from)) {
  const content = readFileSync(new URL(name, from));
  const target = new URL(name, to);
  if (!existsSync(target) || !readFileSync(target).equals(content)) writeFileSync(target, content);
}
