package notification_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// olderInbox is the inbox's table from before commands could be accepted.
const olderInbox = `
CREATE TABLE treaty_inbox (
	sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
	command_id  TEXT    NOT NULL,
	direction   TEXT    NOT NULL CHECK (direction IN ('action', 'compensation')),
	method      TEXT    NOT NULL,
	verdict     TEXT    NOT NULL CHECK (verdict IN ('executed', 'refused', 'null-compensated', 'refused-late')),
	reply       BLOB    NOT NULL,
	epoch       INTEGER NOT NULL,
	attempt     INTEGER NOT NULL,
	executed_at INTEGER NOT NULL,
	duplicates  INTEGER NOT NULL DEFAULT 0,
	UNIQUE (command_id, direction)
) STRICT;
`

// TestOlderInbox starts the twins with a database of an earlier version. Stored answers stay the same, and the table
// becomes that of a new database.
func TestOlderInbox(t *testing.T) {
	stored, err := proto.Marshal(&notificationv1.WelcomeSent{Message: "messages/before"})
	if err != nil {
		t.Fatal(err)
	}
	for name, build := range implementations {
		t.Run(name, func(t *testing.T) {
			program := build(t)
			path, fresh := filepath.Join(t.TempDir(), "older.db"), filepath.Join(t.TempDir(), "fresh.db")
			for _, made := range []string{path, fresh} {
				start(t, program, made).stop(t)
			}
			older(t, path, stored)
			p := start(t, program, path)
			reply, err := p.SendWelcome(participanttest.Action(t.Context(), "s", 6), welcome())
			if err != nil || reply.GetMessage() != "messages/before" {
				t.Errorf("the duplicate got %v, %v; want the reply from before", reply, err)
			}
			if _, err := p.SendWelcome(participanttest.Action(t.Context(), "t", 6), welcome()); err != nil {
				t.Error(err)
			}
			p.stop(t)
			checkLedger(t, path, []string{"sagas/s/steps/6 action executed +1", "sagas/t/steps/6 action executed +0"})
			if got, want := schemaOf(t, path), schemaOf(t, fresh); got != want {
				t.Errorf("the schema is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// older turns a database into one of an earlier version: without the table of forgotten customers, and with the older
// inbox, which has one answer in it.
func older(t *testing.T, path string, stored []byte) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := db.Exec(`DROP TABLE forgotten; PRAGMA user_version = 1; DROP TABLE treaty_inbox;` +
		olderInbox); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`
		INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at)
		VALUES ('sagas/s/steps/6', 'action', '/acme.notification.v1.NotificationService/SendWelcome', 'executed',
			?, 1, 1, 1)`, stored); err != nil {
		t.Fatal(err)
	}
}
