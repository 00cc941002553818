// Package page reads the fenced blocks of a Markdown page, for the tests that do what a page says.
package page

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Block is a fenced part of a page.
type Block struct {
	Page    string // its file's name
	Line    int    // of the fence, counted from 1
	Section string // the heading it is below
	Kind    string // what stands behind the fence
	Lines   []string
}

// At says where it is.
func (b Block) At() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Blocks gives the fenced blocks of the page in file. Lines that are indented as code are refused: nothing says what they
// are.
func Blocks(file string) ([]Block, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found []Block
	var open *Block
	section := ""
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &Block{Page: filepath.Base(file), Line: i + 1, Section: section, Kind: fence}
		case isFence:
			found = append(found, *open)
			open = nil
		case open != nil:
			open.Lines = append(open.Lines, line)
		case strings.HasPrefix(line, "#"):
			section = strings.TrimLeft(line, "# ")
		case strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t"):
			return nil, fmt.Errorf("%s:%d: code without a fence", file, i+1)
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block does not end", open.At())
	}
	return found, nil
}
