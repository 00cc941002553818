package profiles

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// FuzzParse: a text is a valid profile, which can be shown and read back, or it is Errors with lines of the text.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.toml", "testdata/good/*.toml"} {
		for _, file := range globbed(f, pattern) {
			f.Add(file, "")
			f.Add(file, "1")
		}
	}
	f.Add(Template("web"), "")
	f.Fuzz(func(t *testing.T, text, instance string) {
		if instance != "" && CheckName("web-"+instance) != nil {
			t.Skip("not an instance")
		}
		p, err := Parse("/profiles/web.toml", []byte(text), instance)
		if err == nil {
			roundTrip(t, p, instance)
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("got %T %v, want Errors", err, err)
		}
		checkErrors(t, all, text)
	})
}

// checkErrors checks that each error is one line that names a line of the text, in order.
func checkErrors(t *testing.T, all Errors, text string) {
	t.Helper()
	before := 0
	for _, e := range all {
		if e.Line < before || e.Line > strings.Count(text, "\n")+1 {
			t.Errorf("line %d after %d: %v", e.Line, before, e)
		}
		if e.Line == 0 && e.Key != "image" {
			t.Errorf("no line: %v", e)
		}
		if strings.ContainsAny(e.Error(), "\n\x00\x1b") {
			t.Errorf("not one line: %q", e.Error())
		}
		before = e.Line
	}
}

// FuzzLocate: the locator ends on any text, and finds every key and element of a valid one where it is.
func FuzzLocate(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.toml", "testdata/good/*.toml"} {
		for _, file := range globbed(f, pattern) {
			f.Add(file)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		spots := locate(text)
		raw := map[string]any{}
		if _, err := toml.Decode(text, &raw); err != nil {
			return
		}
		checkLocated(t, spots, text, "", raw)
	})
}

// checkLocated checks that the path of value and those of all in it are among the spots.
func checkLocated(t *testing.T, spots map[string]spot, text, path string, value any) {
	t.Helper()
	if at, ok := spots[path]; path != "" && (!ok || at.line != 1+strings.Count(text[:at.offset], "\n")) {
		t.Errorf("%s: got %+v, %v", path, at, ok)
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Map:
		for _, k := range v.MapKeys() {
			checkLocated(t, spots, text, join(path, k.String()), v.MapIndex(k).Interface())
		}
	case reflect.Slice:
		for i := range v.Len() {
			checkLocated(t, spots, text, fmt.Sprintf("%s[%d]", path, i), v.Index(i).Interface())
		}
	}
}

func globbed(f *testing.F, pattern string) []string {
	f.Helper()
	var texts []string
	for _, file := range files(f, pattern) {
		texts = append(texts, string(read(f, file)))
	}
	return texts
}
