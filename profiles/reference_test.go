package profiles

import (
	"reflect"
	"strings"
	"testing"
)

// The reference has every key of the format, each with its type, a text of its own, and its default.
func TestReference(t *testing.T) {
	var keys []string
	about := map[string]string{}
	for _, e := range Reference() {
		keys = append(keys, e.Key)
		if strings.HasPrefix(e.Type, "table") && e.Default == "" {
			continue
		}
		if e.Type == "" || e.About == "" || (e.Default == "" && e.Key != "image") {
			t.Errorf("%s is not described: %+v", e.Key, e)
		}
		if other, ok := about[e.About]; ok {
			t.Errorf("%s has the text of %s", e.Key, other)
		}
		about[e.About] = e.Key
	}
	if got, want := strings.Join(keys, "\n"), strings.Join(formatKeys(reflect.TypeFor[Profile](), ""), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	got := Reference()[len(keys)-1]
	want := Entry{Key: "hooks.post_up", Type: "list of lists of strings", Default: "[]", About: got.About}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
