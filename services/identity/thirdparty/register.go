// Package thirdparty plays the identity register that the identity service depends on. The register belongs to another
// company. It is slow, is called over HTTP, and has its own database. It knows nothing of sagas, but it takes an
// idempotency key with each registration, as good third parties do: a request that is sent twice registers once, and a
// withdrawn key is never registered again.
//
//	PUT    /registrations/{key}   {"name": "...", "passport_number": "...", "applicant": "applicants/..."}
//	                              200 {"reference": "..."} · 422 {"reason": "..."} · 410 the key was withdrawn
//	DELETE /registrations/{key}   204, even if there is nothing to withdraw
//	GET    /registrations         200 {"registrations": [{"key": "...", "reference": "...", "withdrawn": false}]}
//
// Some time after a registration, the register decides whether it vouches for the person. If the application names an
// applicant, it publishes the decision as an event; see [Register.Run].
package thirdparty

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

var migrations = []string{`
CREATE TABLE registrations (
	sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
	key       TEXT NOT NULL UNIQUE,
	reference TEXT NOT NULL,
	withdrawn INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1))
) STRICT;
`, `
ALTER TABLE registrations ADD COLUMN applicant TEXT NOT NULL DEFAULT '';
ALTER TABLE registrations ADD COLUMN finding TEXT NOT NULL DEFAULT '';
ALTER TABLE registrations ADD COLUMN decide_time INTEGER;
CREATE INDEX undecided ON registrations (decide_time) WHERE decide_time IS NOT NULL AND withdrawn = 0;
`, `
ALTER TABLE registrations ADD COLUMN published INTEGER NOT NULL DEFAULT 0 CHECK (published IN (0, 1));
DROP INDEX undecided;
CREATE INDEX unpublished ON registrations (decide_time)
	WHERE decide_time IS NOT NULL AND withdrawn = 0 AND published = 0;
`}

// Register is the register. It may be used concurrently. Close it when it is no longer served.
type Register struct {
	params     Params
	db         *sql.DB
	mux        *http.ServeMux
	writing    chan struct{}
	registered chan struct{} // holds one token if there is a new registration
}

// Params configure a Register.
type Params struct {
	// Path is the SQLite database file. It is created if it doesn't exist.
	Path string

	// Latency is the minimum time that each answer takes.
	Latency time.Duration

	// DecideAfter is how long after a registration the register makes its decision.
	DecideAfter time.Duration
}

var _ http.Handler = (*Register)(nil)

// Open opens the register's database.
func Open(ctx context.Context, params Params) (*Register, error) {
	db, err := sqlitedb.Open(ctx, sqlitedb.Params{Path: params.Path, Migrations: migrations})
	if err != nil {
		return nil, fmt.Errorf("opening the register: %w", err)
	}
	r := &Register{
		params: params, db: db, mux: http.NewServeMux(),
		writing: make(chan struct{}, 1), registered: make(chan struct{}, 1),
	}
	r.mux.HandleFunc("PUT /registrations/{key}", r.put)
	r.mux.HandleFunc("DELETE /registrations/{key}", r.withdraw)
	r.mux.HandleFunc("GET /registrations", r.list)
	return r, nil
}

// Close closes the database.
func (r *Register) Close() error { return r.db.Close() }

// ServeHTTP answers one request.
func (r *Register) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if r.params.Latency > 0 && request.Method != http.MethodGet {
		wait := time.NewTimer(r.params.Latency)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-request.Context().Done():
			return
		}
	}
	request.Body = http.MaxBytesReader(w, request.Body, 1<<16)
	r.mux.ServeHTTP(w, request)
}

// Application is the body of a registration.
type Application struct {
	// Name is the person's name.
	Name string `json:"name"`

	// PassportNumber is the number in the person's passport.
	PassportNumber string `json:"passport_number"`

	// Applicant is the person's name at the sender of the application. The register publishes its decision under this
	// name. If it is empty, nothing is published.
	Applicant string `json:"applicant,omitempty"`
}

// Registration is one row of the list. With only its reference, it is the answer to a registration.
type Registration struct {
	// Key is the idempotency key of the registration.
	Key string `json:"key,omitempty"`

	// Reference is the register's number for the registration.
	Reference string `json:"reference"`

	// Withdrawn says whether the registration was withdrawn, perhaps before it was made.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Rejection is the body of a 422 answer.
type Rejection struct {
	// Reason is why the person isn't registered.
	Reason string `json:"reason"`
}

// Registrations is the body of the list.
type Registrations struct {
	// Registrations are all registrations, oldest first.
	Registrations []Registration `json:"registrations"`
}

func (r *Register) put(w http.ResponseWriter, request *http.Request) {
	var application Application
	if err := json.NewDecoder(request.Body).Decode(&application); err != nil {
		http.Error(w, "the body is not an application in JSON", http.StatusBadRequest)
		return
	}
	// Blank passports of this series were stolen.
	if strings.HasPrefix(application.PassportNumber, "XX") {
		answer(w, http.StatusUnprocessableEntity, Rejection{Reason: "the passport is reported as lost or stolen"})
		return
	}
	reference, withdrawn, err := r.register(request.Context(), request.PathValue("key"), &application)
	switch {
	case err != nil:
		fail(w, request, err)
	case withdrawn:
		http.Error(w, "the registration was withdrawn", http.StatusGone)
	default:
		answer(w, http.StatusOK, Registration{Reference: reference})
	}
}

func (r *Register) withdraw(w http.ResponseWriter, request *http.Request) {
	err := r.write(request.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(request.Context(), `
			INSERT INTO registrations (key, reference, withdrawn) VALUES (?, '', 1)
			ON CONFLICT (key) DO UPDATE SET withdrawn = 1`, request.PathValue("key"))
		return err
	})
	if err != nil {
		fail(w, request, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Register) list(w http.ResponseWriter, request *http.Request) {
	all, err := r.registrations(request.Context())
	if err != nil {
		fail(w, request, err)
		return
	}
	answer(w, http.StatusOK, Registrations{Registrations: all})
}

func (r *Register) registrations(ctx context.Context) (all []Registration, err error) {
	rows, err := r.db.QueryContext(ctx, `SELECT key, reference, withdrawn FROM registrations ORDER BY sequence`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var one Registration
		if err := rows.Scan(&one.Key, &one.Reference, &one.Withdrawn); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func (r *Register) register(
	ctx context.Context, key string, a *Application,
) (reference string, withdrawn bool, err error) {
	var decideTime sql.NullInt64
	finding, decides := examine(a.PassportNumber)
	if decides && a.Applicant != "" {
		decideTime = sql.NullInt64{Int64: time.Now().Add(r.params.DecideAfter).UnixMicro(), Valid: true}
	}
	err = r.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO registrations (key, reference, applicant, finding, decide_time) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (key) DO NOTHING`, key, "REG-"+rand.Text()[:12], a.Applicant, finding, decideTime); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT reference, withdrawn FROM registrations WHERE key = ?`,
			key).Scan(&reference, &withdrawn)
	})
	if err == nil && decideTime.Valid {
		r.wake()
	}
	return reference, withdrawn, err
}

// write runs one transaction at a time.
func (r *Register) write(ctx context.Context, do func(*sql.Tx) error) (err error) {
	select {
	case r.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.writing }()
	tx, err := r.db.BeginTx(ctx, sqlitedb.Immediate())
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A client that doesn't receive the answer notices that on its own.
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, request *http.Request, err error) {
	if request.Context().Err() == nil {
		slog.ErrorContext(request.Context(), "the register failed", "error", err)
	}
	http.Error(w, "internal error", http.StatusInternalServerError)
}
