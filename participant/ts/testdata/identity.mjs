// A participant for the conformance kit. It has an action with its compensation, and one that takes long. The arguments
// are the file of the database, and how many milliseconds an inspection takes.

import { status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { Database, Inbox, Participant, Pending, StatusError } from "@treatyhq/participant";
import { fileURLToPath } from "node:url";

const [path = "", takes = "0"] = process.argv.slice(2);
const contract = loadSync("acme/identity/v1/identity_service.proto", {
  includeDirs: [fileURLToPath(new URL("../../../proto", import.meta.url))],
  keepCase: true, defaults: true, longs: String, enums: String, oneofs: true,
});
const database = Database.open(path, [`
  CREATE TABLE applicants (id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT NOT NULL);
  CREATE TABLE inspections (command_id TEXT PRIMARY KEY, applicant TEXT NOT NULL, done INTEGER NOT NULL)`,
]);
const participant = new Participant({ name: "identity", inbox: new Inbox(database) });

participant.addService(contract["acme.identity.v1.IdentityService"], {
  commands: {
    RegisterApplicant: ({ database }, { customer, passport_number }) => {
      if (passport_number === "none") {
        throw new StatusError(status.FAILED_PRECONDITION, "the register rejects the applicant", {
          type: "acme.identity.v1.ApplicantRejected",
          value: contract["acme.identity.v1.ApplicantRejected"].serialize({ reason: "no passport" }),
        });
      }
      const { lastInsertRowid } = database.run("INSERT INTO applicants (customer) VALUES (?)", [customer]);
      return { applicant: `applicants/${lastInsertRowid}` };
    },
    WithdrawApplicant: (tx, { reply }) => {
      const { applicant } = reply ?? tx.actionReply();
      tx.database.run("DELETE FROM applicants WHERE 'applicants/' || id = ?", [applicant]);
      return {};
    },
    InspectPassport: ({ database, command }, { applicant }) => {
      if (applicant === "") throw new StatusError(status.NOT_FOUND, "there is no such applicant");
      if (command !== undefined) {
        database.run("INSERT INTO inspections VALUES (?, ?, 0)", [command.commandId, applicant]);
        setTimeout(work, Number(takes));
      }
      return new Pending(5);
    },
    DiscardInspection: ({ database, command }) => {
      database.run("DELETE FROM inspections WHERE command_id = ?", [command.commandId]);
      return {};
    },
  },
  reads: {
    ListApplicants: () => ({
      applicants: database.all("SELECT id FROM applicants").map(({ id }) => ({ name: `applicants/${id}` })),
    }),
    ListInspections: () => ({
      inspections: database.all("SELECT applicant FROM inspections WHERE done").map(({ applicant }) => ({ applicant })),
    }),
  },
});

/** Completes what was accepted, also by an earlier process. */
function work() {
  for (const pending of participant.pending()) {
    participant.complete(pending, ({ database }) => {
      database.run("UPDATE inspections SET done = 1 WHERE command_id = ?", [pending.commandId]);
      return { inspection: `inspections/${pending.commandId.replaceAll("/", "-")}` };
    });
  }
}

work();
console.log(`listening on 127.0.0.1:${await participant.listen({ address: "127.0.0.1:0" })}`);
