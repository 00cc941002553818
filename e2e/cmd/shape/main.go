// Command shape measures how the code is built and fails where a package is over a limit: the files and lines of a
// package, the methods of a type, the lines of a function, the share of pronouns among the words of comments. Tests are
// not measured. The command reads the tree below the working directory and prints a line for each package. It parses
// the files only, and neither type-checks nor imports any of the packages. Begin reading at measure.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// limits are the most lines and files a package may have.
type limits struct{ lines, files int }

// limitsOf returns the limits of the package in a directory. Packages below launcher are small. The package netsetup
// may be longer, as the steps and the Plan of netsetup need each other.
func limitsOf(dir string) limits {
	switch {
	case dir == "netsetup":
		return limits{lines: 6000, files: 40}
	case strings.HasPrefix(dir, "launcher/"), strings.HasPrefix(dir, "netsetup/"):
		return limits{lines: 2500, files: 25}
	}
	return limits{lines: 3300, files: 40}
}

// Limits of every package.
const (
	maxMethods  = 60  // of a type
	maxFunction = 60  // lines of a function
	maxMedian   = 14  // lines of the median function of all packages
	maxPronouns = 3.0 // percent of the words of a package's comments
)

// shape holds the measurements of a package.
type shape struct {
	dir       string
	files     int
	lines     int
	functions []function
	methods   map[string]int // by the receiver's type
	words     int            // of comments
	pronouns  int            // among words
}

// function is a function with its body.
type function struct {
	place string // FILE:LINE NAME
	lines int
}

func main() {
	shapes, err := measure(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
	failed := false
	fmt.Println("package                 files  lines  median  longest  pronouns")
	tree := &shape{dir: "all"}
	for _, s := range shapes {
		fmt.Println(s)
		tree.functions = append(tree.functions, s.functions...)
		for _, fault := range s.faults() {
			fmt.Printf("  FAIL %s: %s\n", s.dir, fault)
			failed = true
		}
	}
	if median := tree.median(); median > maxMedian {
		fmt.Printf("  FAIL lines of the median function of all packages: %d, at most %d\n", median, maxMedian)
		failed = true
	}
	if failed {
		os.Exit(1)
	}
}

// measure returns the shapes of all packages below root, ordered by directory. Packages of tests alone are left out.
func measure(root string) ([]*shape, error) {
	shapes := map[string]*shape{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (d.Name()[0] == '.' || d.Name() == "testdata"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		dir := filepath.Dir(path)
		if shapes[dir] == nil {
			shapes[dir] = &shape{dir: dir, methods: map[string]int{}}
		}
		return shapes[dir].add(path)
	})
	var sorted []*shape
	for _, dir := range slices.Sorted(maps.Keys(shapes)) {
		sorted = append(sorted, shapes[dir])
	}
	return sorted, err
}

// add counts one file of the package.
func (s *shape) add(path string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	s.files++
	s.lines += fset.File(file.Pos()).LineCount()
	for _, group := range file.Comments {
		s.addComment(group.Text())
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			s.addFunction(fset, f)
		}
	}
	return nil
}

func (s *shape) addFunction(fset *token.FileSet, f *ast.FuncDecl) {
	begin, end := fset.Position(f.Pos()), fset.Position(f.End())
	s.functions = append(s.functions, function{fmt.Sprintf("%s:%d %s", begin.Filename, begin.Line, f.Name.Name), end.Line - begin.Line + 1})
	if f.Recv == nil {
		return
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if name, ok := t.(*ast.Ident); ok {
		s.methods[name.Name]++
	}
}

var (
	word    = regexp.MustCompile(`[A-Za-z']+`)
	pronoun = regexp.MustCompile(`(?i)^(that|which|whose|whom|those|one|it)$`)
)

func (s *shape) addComment(text string) {
	for _, w := range word.FindAllString(text, -1) {
		s.words++
		if pronoun.MatchString(w) {
			s.pronouns++
		}
	}
}

// share returns the pronouns among the words of comments, in percent.
func (s *shape) share() float64 { return 100 * float64(s.pronouns) / float64(max(s.words, 1)) }

// median returns the lines of the package's median function; 0 where it has none.
func (s *shape) median() int {
	if len(s.functions) == 0 {
		return 0
	}
	return s.byLength()[len(s.functions)/2].lines
}

// byLength returns the functions, the shortest first.
func (s *shape) byLength() []function {
	return slices.SortedFunc(slices.Values(s.functions), func(a, b function) int { return a.lines - b.lines })
}

// longest returns the lines of the package's longest function; 0 where it has none.
func (s *shape) longest() int {
	if len(s.functions) == 0 {
		return 0
	}
	return s.byLength()[len(s.functions)-1].lines
}

func (s *shape) String() string {
	return fmt.Sprintf("%-22s %6d %6d %7d %8d %8.1f%%", s.dir, s.files, s.lines, s.median(), s.longest(), s.share())
}

// faults returns a line for each limit the package exceeds.
func (s *shape) faults() []string {
	var faults []string
	over := func(what string, got, most int) {
		if got > most {
			faults = append(faults, fmt.Sprintf("%s: %d, at most %d", what, got, most))
		}
	}
	l := limitsOf(s.dir)
	over("files", s.files, l.files)
	over("lines", s.lines, l.lines)
	for _, f := range s.functions {
		over("lines of "+f.place, f.lines, maxFunction)
	}
	for _, name := range slices.Sorted(maps.Keys(s.methods)) {
		over("methods of "+name, s.methods[name], maxMethods)
	}
	if s.share() >= maxPronouns {
		faults = append(faults, fmt.Sprintf("pronouns (that, which, whose, whom, those, one, it) in comments: %.1f %%, under %.0f %%", s.share(), maxPronouns))
	}
	return faults
}
