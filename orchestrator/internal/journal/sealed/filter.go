package sealed

import (
	"slices"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// translate returns a filter that selects what f selects, of rows with the labels as they are stored. It returns false
// if the result selects other rows, too. Nil selects all rows. It needs no secret but the key of the index.
func (r *ring) translate(f *journal.Filter) (inside *journal.Filter, exact bool) {
	switch f.Op {
	case journal.And, journal.Or:
		return r.translateArgs(f)
	case journal.Not:
		arg, exact := r.translate(f.Args[0])
		if !exact {
			return nil, false
		}
		return &journal.Filter{Op: journal.Not, Args: []*journal.Filter{arg}}, true
	}
	if f.Field != journal.FieldLabel {
		return f, true
	}
	digest := *f
	digest.Text = r.digest(f.Label, f.Text)
	switch f.Op {
	case journal.Equal: // a row that was stored before there were keys has the value itself
		return &journal.Filter{Op: journal.Or, Args: []*journal.Filter{&digest, f}}, true
	case journal.NotEqual:
		return &journal.Filter{Op: journal.And, Args: []*journal.Filter{&digest, f}}, true
	default:
		return nil, false // digests have another order
	}
}

func (r *ring) translateArgs(f *journal.Filter) (inside *journal.Filter, exact bool) {
	args, exact := make([]*journal.Filter, 0, len(f.Args)), true
	for _, arg := range f.Args {
		translated, is := r.translate(arg)
		exact = exact && is
		switch {
		case translated != nil:
			args = append(args, translated)
		case f.Op == journal.Or:
			return nil, false
		}
	}
	switch len(args) {
	case 0:
		return nil, exact
	case 1:
		return args[0], exact
	}
	return &journal.Filter{Op: f.Op, Args: args}, exact
}

// comparesLabels returns whether a filter compares a label.
func comparesLabels(f *journal.Filter) bool {
	return f.Field == journal.FieldLabel || slices.ContainsFunc(f.Args, comparesLabels)
}
