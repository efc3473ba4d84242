// The service's own tables, in the database that also has its inbox. Times are microseconds since 1970.

/** The migrations of the database. Only append to them. */
export const migrations = [`
CREATE TABLE messages (
	sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
	name      TEXT    NOT NULL UNIQUE CHECK (name LIKE 'messages/%'),
	customer  TEXT    NOT NULL CHECK (customer LIKE 'customers/%'),
	email     TEXT    NOT NULL CHECK (email <> ''),
	subject   TEXT    NOT NULL,
	text      TEXT    NOT NULL,
	send_time INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_customer ON messages (customer, sequence);
`, `
CREATE TABLE forgotten (customer TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
`];
