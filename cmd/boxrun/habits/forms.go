package habits

import (
	_ "embed"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"boxrun/launcher/files"
)

//go:embed forms.txt
var formsText string

// Known returns the file of the profile of a box, be the box up or not; false for a name that boxrun does not know.
type Known func(name string) (file string, known bool)

// A form is a command line of another tool, as a line of forms.txt has it.
type form struct {
	verbs   []string
	flags   map[string]string // by flag, the name of its value; "_" for none, and the flag itself where it has no value
	words   []string          // that stand without a flag
	rest    string            // name of all words behind those; "" for none
	instead string
}

// Instead returns what to type in place of a verb of another tool and the words behind the verb, with those words filled in; ""
// where no form fits.
func Instead(verb string, words []string, known Known) string {
	for line := range entries(formsText) {
		f := formOf(line)
		if !slices.Contains(f.verbs, verb) {
			continue
		}
		if bound := f.fit(words); bound != nil && bound.complete(f, known) {
			return bound.filled(f.instead)
		}
	}
	return ""
}

// formOf reads a line of forms.txt.
func formOf(line string) form {
	pattern, instead, _ := strings.Cut(line, ": ")
	words := strings.Fields(pattern)
	f := form{verbs: strings.Split(words[0], "|"), flags: map[string]string{}, instead: instead}
	for _, word := range words[1:] {
		flags, name, valued := strings.Cut(word, "=")
		rest, isRest := strings.CutSuffix(word, "...")
		switch {
		case strings.HasPrefix(word, "-"):
			for flag := range strings.SplitSeq(flags, "|") {
				f.flags[flag] = name
				if !valued {
					f.flags[flag] = flag
				}
			}
		case isRest:
			f.rest = rest
		default:
			f.words = append(f.words, word)
		}
	}
	return f
}

// bindings are the words of a user, by the names that they have in a form.
type bindings map[string]string

// fit returns the words of a user by their names in the form; nil where the words do not fit.
func (f form) fit(words []string) bindings {
	b, left, rest := bindings{}, f.words, []string(nil)
	for i := 0; i < len(words); i++ {
		flag, value, joined := strings.Cut(words[i], "=")
		name, known := f.flags[flag]
		switch {
		case f.rest == "COMMAND" && len(left) == 0 && (len(f.words) > 0 || !strings.HasPrefix(flag, "-")):
			rest, i = words[i:], len(words)
		case known && name != flag && !joined && i+1 == len(words):
			return nil
		case known && name != flag && !joined:
			i++
			b[name] = shown(name, words[i])
		case known:
			b[name] = shown(name, value)
		case strings.HasPrefix(flag, "-") && f.rest != "OTHERS": // a flag without a value, as it seems
		case len(left) > 0 && b.bind(left[0], words[i]):
			left = left[1:]
		case len(left) > 0 || f.rest == "":
			return nil
		default:
			rest = append(rest, words[i])
		}
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	if len(left) > 0 || len(rest) == 0 && f.rest != "" {
		return nil
	}
	b[f.rest] = files.QuoteAll(rest)
	return b
}

// capitals find the names in a form.
var capitals = regexp.MustCompile(`\b[A-Z]+\b`)

// bind takes the word of a user for a word of a form, such as USER@BOX, and reports whether the two are alike.
func (b bindings) bind(pattern, word string) bool {
	if !capitals.MatchString(pattern) {
		return slices.Contains(strings.Split(pattern, "|"), word)
	}
	alike := regexp.MustCompile("^" + capitals.ReplaceAllString(pattern, "(?P<$0>[^=]+?)") + "$")
	found := alike.FindStringSubmatch(word)
	if found == nil {
		return false
	}
	for i, name := range alike.SubexpNames()[1:] {
		b[name] = shown(name, found[i+1])
	}
	return true
}

// shown returns a word as the text of a form has it: amounts as a profile takes them, all else as bash does.
func shown(name, word string) string {
	switch percent, err := strconv.ParseFloat(strings.TrimSuffix(word, "%"), 64); {
	case name == "SIZE":
		return strings.ToUpper(word)
	case name == "PERCENT" && err == nil:
		return strconv.FormatFloat(percent/100, 'f', -1, 64)
	}
	return files.Quote(word)
}

// complete adds what follows from the words of a user, and reports whether all that the form asks for is there.
func (b bindings) complete(f form, known Known) bool {
	for _, name := range f.flags {
		if _, is := b[name]; name != "_" && !is {
			return false
		}
	}
	box, isBox := b["BOX"]
	if !isBox {
		box = b["PROFILE"]
	}
	file, is := known(box)
	if !is && isBox {
		return false
	}
	b["FILE"] = "its profile"
	if filepath.IsAbs(file) {
		b["FILE"], b["NEWFILE"] = files.Quote(file), files.Quote(filepath.Join(filepath.Dir(file), b["NEW"]+".toml"))
	}
	return b["NEWFILE"] != "" || !strings.Contains(f.instead, "NEWFILE")
}

// filled returns a text with the words of a user in place of their names.
func (b bindings) filled(text string) string {
	return capitals.ReplaceAllStringFunc(text, func(name string) string {
		if word, is := b[name]; is {
			return word
		}
		return name
	})
}
