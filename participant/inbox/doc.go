// Package inbox makes the effect of a participant's handler exactly-once, inside the service's own database
// transaction.
//
// The orchestrator sends a command until it receives an answer, and a compensation whenever the action may have run. So
// a command can arrive twice, arrive late, or arrive after its compensation. The inbox handles all of these cases. It
// runs a handler at most once for each command id and direction, stores the answer in the same transaction as the
// handler's effect, and answers every duplicate with the stored answer.
//
// # Use
//
// Open the database that holds the service's own tables with [OpenSQLiteDB], and an [Inbox] in it once, with
// [OpenSQLite]. In PostgreSQL, open it with [OpenPostgres], or for pgx without package sql with package pgxinbox. All
// operations are functions that take it, because some of them are generic over the reply and Go has no generic methods:
//
//   - [Handle] is for gRPC handlers. What the handler that it runs returns decides the verdict: a reply, a refusal
//     (participant.Refuse), or participant.Pending to accept the command now and complete it later.
//   - [Complete] ends an accepted command with a reply, and [Refuse] ends it with a refusal. Like Handle, they run a
//     handler and commit its effect together with the answer, at most once.
//   - [Pending] lists the accepted commands that are not completed yet. A process calls it when it starts, to continue
//     the work of the one before it.
//   - [ActionReply] gives a compensation's handler the reply of its action.
//   - [Purge] deletes old commands, as does [Options.Retention].
//
// A gRPC handler writes its effect through the transaction that Handle passes to it:
//
//	func (s *service) ChangeAddress(
//		ctx context.Context, in *customerv1.ChangeAddressRequest,
//	) (*customerv1.AddressChanged, error) {
//		return inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
//			if _, err := tx.ExecContext(ctx, "UPDATE ...", in.GetCustomer()); err != nil {
//				return nil, err
//			}
//			return &customerv1.AddressChanged{...}, nil
//		})
//	}
//
// A command that completes at once needs only Handle. A command that takes long goes through Handle, then Pending, then
// Complete or Refuse, and a participant.Completer reports the outcome to the orchestrator. If that fails, the
// orchestrator sends the command again, and Handle answers with what Complete or Refuse stored.
//
// # Throughput
//
// In SQLite, commands that wait at the same moment share one transaction and one commit: see docs/participants.md. In
// PostgreSQL, each command has a transaction of its own, and several processes of a service share an inbox.
//
// # The ledger
//
// What the inbox stores is also the service's ledger: one row for each command and direction, in the order of their
// transactions, with its verdict. See docs/participants.md for the table and for queries to audit it.
//
// # What it never does
//
// The inbox covers effects in its own database, through the handler's [Tx]. In SQLite, it notices a handler that writes
// to this database in another way; see [Handle]. An effect elsewhere, such as a call to a third party, can't be
// noticed. It needs an idempotency key; see the example service services/identity. The inbox never calls the
// orchestrator.
package inbox
