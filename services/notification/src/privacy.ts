// Implements acme.privacy.v1.UserDataService, as every service that stores personal data does.

import type { Tx } from "@treatyhq/participant";
import { customerName, invalid } from "./service.js";

export interface DeleteUserDataRequest {
  customer: string;
}

export interface UserDataDeleted {
  erased: { kind: string; deleted: number; anonymized: number }[];
}

/** Deletes the messages to a customer, and remembers not to send more. */
export function deleteUserData({ database }: Tx, r: DeleteUserDataRequest): UserDataDeleted {
  if (!customerName.test(r.customer)) throw invalid("customer: want customers/{customer}");
  database.run("INSERT INTO forgotten (customer) VALUES (?) ON CONFLICT DO NOTHING", [r.customer]);
  const { changes } = database.run("DELETE FROM messages WHERE customer = ?", [r.customer]);
  return { erased: changes === 0 ? [] : [{ kind: "messages", deleted: changes, anonymized: 0 }] };
}
