package say

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// leastCell is how short a cell of a table becomes before columns are left out: addresses stay whole. leastName is for the
// first cell of a row, by which a person knows the row.
const (
	leastCell = 15
	leastName = 6
)

// Fit makes the rows of a table fit into columns, with gap blanks between cells. Long cells are shortened, the widest
// first and the first of a row last, with "..." at their ends. Where that is not enough, columns are left out from the
// right, except for the first two.
func Fit(rows [][]string, gap, columns int) [][]string {
	widths := widths(rows)
	shown := len(widths)
	for shown > 2 && leastWidth(widths[:shown], gap) > columns {
		shown--
	}
	widths = widths[:shown]
	for over := sum(widths) + gap*(shown-1) - columns; over > 0; over-- {
		widths[toShorten(widths)]--
	}
	fitted := make([][]string, len(rows))
	for r, row := range rows {
		for i := range min(len(row), shown) {
			fitted[r] = append(fitted[r], within(row[i], widths[i]))
		}
	}
	return fitted
}

// leastWidth returns how wide rows are with all cells shortened but the first.
func leastWidth(widths []int, gap int) int {
	total := widths[0] + gap*(len(widths)-1)
	for _, width := range widths[1:] {
		total += min(width, leastCell)
	}
	return total
}

// toShorten returns the column to shorten next.
func toShorten(widths []int) int {
	rest := widths[1:]
	if len(rest) > 0 && (slices.Max(rest) > leastCell || widths[0] <= leastName) {
		return 1 + slices.Index(rest, slices.Max(rest))
	}
	return 0
}

// widths returns the width of each column: of its widest cell.
func widths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func sum(numbers []int) int {
	total := 0
	for _, n := range numbers {
		total += n
	}
	return total
}

// within returns text in at most n characters, with "..." at the end of a shortened one.
func within(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:max(n-3, 0)]) + "..."
}

// Folded breaks the texts of rows of a label and a text at blanks, so that the rows fit into columns, with gap blanks
// between the cells. The rest of a text is a row without a label. Words too long for a line, as paths may be, stay whole, and
// so do rows of other tables: commands in them are to be copied.
func Folded(rows [][]string, gap, columns int) [][]string {
	widths := widths(rows)
	if len(widths) != 2 {
		return rows
	}
	var folded [][]string
	for _, row := range rows {
		label := row[0]
		for _, line := range lines(row[1], columns-gap-widths[0]) {
			folded = append(folded, []string{label, line})
			label = ""
		}
	}
	return folded
}

// lines breaks a text at blanks into lines of at most n characters, each with the indentation of the text.
func lines(text string, n int) []string {
	rest := strings.TrimLeft(text, " ")
	indent := text[:len(text)-len(rest)]
	var all []string
	line, blank := indent, ""
	for word := range strings.SplitSeq(rest, " ") {
		if line != indent && utf8.RuneCountInString(line+blank+word) > n {
			all, line, blank = append(all, line), indent, ""
		}
		line, blank = line+blank+word, " "
	}
	return append(all, line)
}
