package render

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Journal is a table of the records of a saga.
type Journal struct {
	view  *View
	saga  string
	start *timestamppb.Timestamp
	table *table
}

// NewJournal makes an empty table. saga is the saga's name.
func NewJournal(view *View, saga string) *Journal {
	return &Journal{view: view, saga: saga, table: newTable("RECORD", "AT", "WHAT", "STEP", "DETAIL")}
}

// Add adds a record. payload is the type of the record's payload, or nil if it isn't known. Add the oldest record
// first.
func (j *Journal) Add(record *treatyv1.SagaRecord, payload protoreflect.MessageDescriptor) {
	if j.start == nil {
		j.start = record.GetTime()
	}
	j.table.add(j.view.record(record, j.start, payload))
}

// String returns the table, or "" if it has no records.
func (j *Journal) String() string {
	if len(j.table.rows) == 1 {
		return ""
	}
	title := line{{j.saga, bold}, {"  from " + j.view.moments.exact(j.start), plain}}
	return j.view.render(append([]line{title, nil}, j.table.lines()...))
}

// record returns the row of one record.
func (v *View) record(
	record *treatyv1.SagaRecord, start *timestamppb.Timestamp, payload protoreflect.MessageDescriptor,
) row {
	what := describe(record.GetRecord())
	name := record.GetName()
	r := row{cells: []span{
		{name[strings.LastIndexByte(name, '/')+1:], dim},
		{v.moments.after(start, record.GetTime()), dim},
		{what.title, what.style},
		{what.step, plain},
		{what.detail, plain},
	}}
	if len(what.payload) > 0 {
		r.notes = append(r.notes, v.recordPayload(what.payload, payload)...)
	}
	if what.progress != nil {
		r.notes = append(r.notes, v.typed(what.progress)...)
	}
	if what.failure != nil {
		r.notes = append(r.notes, text(red, "%s", FailureText(what.failure)))
		for _, detail := range what.failure.GetDetails() {
			r.notes = append(r.notes, indented(2, v.typed(detail))...)
		}
	}
	if what.decision != nil {
		r.notes = append(r.notes, text(plain, "%s", decisionText(what.decision)))
	}
	return r
}

func (v *View) recordPayload(raw []byte, descriptor protoreflect.MessageDescriptor) []line {
	body, ok := v.encoder.EncodeBytes(descriptor, raw)
	if !ok {
		return []line{text(dim, "%s of an unknown type", size(len(raw)))}
	}
	return jsonLines(body)
}
