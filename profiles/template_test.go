package profiles

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The template is valid as it is, and so it is with every key uncommented: then it says the defaults.
func TestTemplate(t *testing.T) {
	text := Template("web")
	p, err := Parse("/profiles/web.toml", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name, want.Hostname = "web", "web"
	want.File, want.Image = "/profiles/web.toml", "/profiles/web.sif"
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, want %+v", p, want)
	}
	full := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(text, "$1")
	p, err = Parse("/profiles/web.toml", []byte(full), "")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("uncommented: got %+v, want %+v", p, want)
	}
	if strings.Contains(text, "NAME.") {
		t.Errorf("got a NAME that was not filled in:\n%s", text)
	}
}

// The template has every key of the format, in the format's order, and nothing else.
func TestTemplateKeys(t *testing.T) {
	var got []string
	table := ""
	for _, m := range regexp.MustCompile(`(?m)^(?:\[([a-z]+)\]|#?([a-z_0-9]+) = )`).FindAllStringSubmatch(Template("web"), -1) {
		if m[1] != "" {
			table = m[1] + "."
			got = append(got, m[1])
			continue
		}
		got = append(got, table+m[2])
	}
	if got, want := strings.Join(got, "\n"), strings.Join(formatKeys(reflect.TypeFor[Profile](), ""), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// formatKeys lists the keys of a struct by its tags, those of its tables behind the table.
func formatKeys(s reflect.Type, table string) []string {
	var keys []string
	for i := range s.NumField() {
		f := s.Field(i)
		tag := f.Tag.Get("toml")
		if tag == "-" {
			continue
		}
		keys = append(keys, table+tag)
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == s.PkgPath() {
			keys = append(keys, formatKeys(f.Type, tag+".")...)
		}
	}
	return keys
}

// The decoder asks for every key of the format: none is unknown, and none is ignored.
func TestEveryKeyIsDecoded(t *testing.T) {
	for _, path := range formatKeys(reflect.TypeFor[Profile](), "") {
		value := "1979-05-27" // a type that no key has
		_, err := Parse("web.toml", []byte(path+" = "+value), "")
		if err == nil || !strings.Contains(err.Error(), "web.toml:1: "+path+": must be ") {
			t.Errorf("%s = %s: got %v, want it refused for its type", path, value, err)
		}
	}
}
