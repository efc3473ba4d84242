// Package postgres keeps the directory of a cluster in PostgreSQL.
//
// The tables are those of orchestrator/internal/journal/postgres/schema/0001_cluster.sql, which the store creates. The
// directory has connections of its own, so that commits that wait delay no renewal of a lease.
package postgres
