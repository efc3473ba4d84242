package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations make the same database as the twin in TypeScript. Times are microseconds since 1970.
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

// store keeps messages in SQLite.
type store struct {
	db    *sql.DB
	inbox *inbox.Inbox
}

func openStore(ctx context.Context, path string, retention time.Duration) (*store, error) {
	// The twin's SQLite can't open a file in WAL mode.
	db, err := sqlitedb.Open(ctx, sqlitedb.Params{Path: path, Migrations: migrations, Journal: sqlitedb.Rollback})
	if err != nil {
		return nil, err
	}
	in, err := inbox.OpenSQLite(ctx, db, inbox.Options{Retention: retention})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &store{db: db, inbox: in}, nil
}

func (s *store) close() error { return s.db.Close() }

// list returns a page of a customer's messages, or of everybody's, and the token of the next.
func (s *store) list(ctx context.Context, customer string, page paging.Page) (messages []*notificationv1.Message, next string, err error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT sequence, name, customer, email, subject, text, send_time FROM messages
		WHERE sequence > ?1 AND (?2 = '' OR customer = ?2) ORDER BY sequence LIMIT ?3`, page.After, customer, page.Size+1)
	if err != nil {
		return nil, "", fmt.Errorf("listing messages: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last int64
	for rows.Next() {
		if len(messages) == page.Size {
			next = page.Next(last)
			break
		}
		m := &notificationv1.Message{}
		var sent int64
		if err := rows.Scan(&last, &m.Name, &m.Customer, &m.Email, &m.Subject, &m.Text, &sent); err != nil {
			return nil, "", fmt.Errorf("listing messages: %w", err)
		}
		m.SendTime = timestamppb.New(time.UnixMicro(sent))
		messages = append(messages, m)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing messages: %w", err)
	}
	return messages, next, nil
}

// add adds a message to the outbox.
func (s *store) add(ctx context.Context, tx *sql.Tx, m *notificationv1.Message) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO messages (name, customer, email, subject, text, send_time) VALUES (?, ?, ?, ?, ?, ?)`,
		m.GetName(), m.GetCustomer(), m.GetEmail(), m.GetSubject(), m.GetText(), m.GetSendTime().AsTime().UnixMicro()); err != nil {
		return fmt.Errorf("adding a message: %w", err)
	}
	return nil
}

// remove deletes a customer's messages and returns how many there were.
func (s *store) remove(ctx context.Context, tx *sql.Tx, customer string) (int64, error) {
	result, err := tx.ExecContext(ctx, `DELETE FROM messages WHERE customer = ?`, customer)
	if err != nil {
		return 0, fmt.Errorf("deleting messages: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("deleting messages: %w", err)
	}
	return n, nil
}
