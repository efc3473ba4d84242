// Package render turns messages of the API into text for people.
//
// # Views
//
// A [View] renders sagas, their timelines, events, definitions and lists. It is made with [Options], which say whether
// the text is for a terminal: then it has colors and marks, and times are distances from now. Elsewhere text has no
// escape sequences and times are in UTC, so the same messages always give the same text. [Journal] collects records for
// a table. [Frames] redraws a saga at the same place of a terminal.
//
// # Safety
//
// Text from outside is shown by [Clean], so it can't move the cursor or hide anything. Fields marked debug_redact are
// never shown.
//
// The package writes nothing, calls nothing but the schema of its view, and knows no commands or flags, except in the
// commands that it suggests.
package render
