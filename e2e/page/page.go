// Package page reads the fenced blocks of a Markdown page, for tests that do what a page says. The package knows the
// form of blocks only. The tests decide what a block means, by its Kind and Section, and run the commands. Begin
// reading at Blocks.
package page

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Block is a fenced part of a page.
type Block struct {
	Page    string // name of the file
	Line    int    // of the fence, counted from 1
	Section string // the nearest heading above
	Kind    string // text after the fence
	Lines   []string
}

// At returns the place of the block, FILE:LINE.
func (b Block) At() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Blocks returns the fenced blocks of the page in file, in order. Code blocks made by indenting are refused, as nothing
// states their kind. A block without an end is an error too.
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
