package screen

import (
	"slices"
	"unicode/utf8"
)

// leastCell is how short a cell of a table may become.
const leastCell = 6

// Fit shortens cells of a table until the rows fit into columns, with gap blanks between cells: the widest first, with
// ".." at the end. The first cell of a row stays whole: people type it. A table of many columns may still be too wide for
// a narrow terminal.
func Fit(rows [][]string, gap, columns int) [][]string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := gap * (len(widths) - 1)
	for _, width := range widths {
		total += width
	}
	for total > columns && len(widths) > 1 {
		widest := slices.Max(widths[1:])
		if widest <= leastCell {
			break
		}
		widths[1+slices.Index(widths[1:], widest)]--
		total--
	}
	fitted := make([][]string, len(rows))
	for r, row := range rows {
		fitted[r] = slices.Clone(row)
		for i, cell := range row {
			if utf8.RuneCountInString(cell) > widths[i] {
				fitted[r][i] = string([]rune(cell)[:widths[i]-2]) + ".."
			}
		}
	}
	return fitted
}
