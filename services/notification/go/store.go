package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations create the same database as the twin in TypeScript. Times are microseconds since 1970.
var migrations = []string{`
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
`, forgotten.SQLiteSchema}

// store stores messages in SQLite.
type store struct{ *sqlitedb.Store }

var messageRows = sqlitedb.Query[*notificationv1.Message]{
	Kind:   "messages",
	Select: `SELECT sequence, name, customer, email, subject, text, send_time FROM messages`,
	Scan:   scanMessage,
}

func scanMessage(scan func(...any) error) (m *notificationv1.Message, sequence int64, err error) {
	m = &notificationv1.Message{}
	var sent int64
	if err := scan(&sequence, &m.Name, &m.Customer, &m.Email, &m.Subject, &m.Text, &sent); err != nil {
		return nil, 0, err
	}
	m.SendTime = timestamppb.New(time.UnixMicro(sent))
	return m, sequence, nil
}

// list returns one page of a customer's messages, or of all messages if customer is empty, and the token of the next
// page.
func (s *store) list(
	ctx context.Context, customer string, page paging.Page,
) ([]*notificationv1.Message, string, error) {
	if customer == "" {
		return messageRows.Page(ctx, s.DB, page, `true`)
	}
	return messageRows.Page(ctx, s.DB, page, `customer = ?`, customer)
}

// add adds a message to the outbox.
func (s *store) add(ctx context.Context, tx *inbox.Tx, m *notificationv1.Message) error {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO messages (name, customer, email, subject, text, send_time) VALUES (?, ?, ?, ?, ?, ?)`,
		m.GetName(), m.GetCustomer(), m.GetEmail(), m.GetSubject(), m.GetText(),
		m.GetSendTime().AsTime().UnixMicro()); err != nil {
		return fmt.Errorf("adding a message: %w", err)
	}
	return nil
}
