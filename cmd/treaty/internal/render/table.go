package render

import "strings"

// columnGap separates two columns.
const columnGap = "  "

// table arranges rows in columns. The first row is the header.
type table struct {
	rows []row
}

// row is one row and the lines below it, which begin at the second column.
type row struct {
	cells []span
	notes []line
}

func newTable(header ...string) *table {
	t := &table{}
	cells := make([]span, len(header))
	for i, name := range header {
		cells[i] = span{name, dim}
	}
	t.rows = append(t.rows, row{cells: cells})
	return t
}

func (t *table) add(r row) { t.rows = append(t.rows, r) }

// lines returns the table. Each column is as wide as its widest cell; a column without any content is left out.
func (t *table) lines() []line {
	widths := t.widths()
	var out []line
	for _, r := range t.rows {
		var l line
		for i, cell := range r.cells {
			if widths[i] == 0 {
				continue
			}
			pad := widths[i] - line{cell}.width()
			l = append(l, cell, span{strings.Repeat(" ", pad) + columnGap, plain})
		}
		out = append(out, l)
		indent := span{strings.Repeat(" ", widths[0]+len(columnGap)), plain}
		for _, note := range r.notes {
			out = append(out, append(line{indent}, note...))
		}
	}
	return out
}

// widths returns the width of each column, or 0 for a column that is left out.
func (t *table) widths() []int {
	widths := make([]int, len(t.rows[0].cells))
	for _, r := range t.rows[1:] {
		for i, cell := range r.cells {
			widths[i] = max(widths[i], line{cell}.width())
		}
	}
	for i, cell := range t.rows[0].cells {
		if widths[i] > 0 || i == 0 {
			widths[i] = max(widths[i], line{cell}.width())
		}
	}
	return widths
}
