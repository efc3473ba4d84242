// Package sqlite stores sagas in a SQLite file.
//
// # Use
//
// [Open] opens a file for one orchestrator, and [OpenReadOnly] for reading. SQLite is part of the program, so there is
// nothing to install or to run.
//
// One process at a time can open the file for writing: it locks a file next to it, and on Linux also the file itself,
// in case the lock file is deleted. Programs that only read, such as the sqlite3 shell, can open the file at any time.
// The views saga_list, saga_turns and saga_events are made for people.
//
// # How it works
//
// One connection writes and a few read. Each Append is one transaction in write-ahead-log mode with synchronous=FULL,
// so it is on disk before Append returns. Readers never wait for the writer.
//
// Opening checks the header and the schema of the file, not its contents, so it takes the same time for any size. Each
// turn has a checksum, which is checked when the turn is read.
//
// # What it never does
//
// It never interprets the data of a turn.
package sqlite
