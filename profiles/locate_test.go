package profiles

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestLocate(t *testing.T) {
	for _, test := range []struct {
		what, text string
		want       string // path:line, in the order of the text
	}{
		{"keys", "a = 1\n\nb = 2", "a:1 b:3"},
		{"a table", "[a]\nb = 1\n[c]\nd = 2", "a:1 a.b:2 c:3 c.d:4"},
		{"dotted keys", "a.b . c = 1\na.d = 2", "a:1 a.b:1 a.b.c:1 a.d:2"},
		{"a dotted header", "[a.b]\nc = 1\n[a]\nd = 1", "a:1 a.b:1 a.b.c:2 a.d:4"},
		{"quoted keys", "\"a b\" = 1\n'c.d' = 2\n\"\\u0065\" = 3\n[\"x]\"]\ny = 1", `"a b":1 "c.d":2 e:3 "x]":4 "x]".y:5`},
		{"an array on one line", "a = [1, 'x', true]", "a:1 a[0]:1 a[1]:1 a[2]:1"},
		{"an array on many", "a = [\n  1,\n\n  2,\n]\nb = 1", "a:1 a[0]:2 a[1]:4 b:6"},
		{"brackets in comments", "a = [ # ] , [\n 1, # ]\n # 7,\n 2 # [\n] # ]\nb = 1", "a:1 a[0]:2 a[1]:4 b:6"},
		{"nested arrays", "a = [\n [1,\n  2],\n []]", "a:1 a[0]:2 a[0][0]:2 a[0][1]:3 a[1]:4"},
		{"inline tables", "a = { b = 1, c.d = [2,\n3] }\ne = {}", "a:1 a.b:1 a.c:1 a.c.d:1 a.c.d[0]:1 a.c.d[1]:2 e:3"},
		{"inline tables in arrays", "a = [ {b = 1},\n {b = 2} ]", "a:1 a[0]:1 a[0].b:1 a[1]:2 a[1].b:2"},
		{"hashes in strings", "a = \"# [\"\nb = '#'\nc = [\"#\",\n'#']", "a:1 b:2 c:3 c[0]:3 c[1]:4"},
		{"escapes in strings", "a = \"\\\"\\\\\" # x\nb = '\\'\nc = 1", "a:1 b:2 c:3"},
		{"strings of many lines", "a = \"\"\"\nx = 1\n\\\"\"\" \"\" ]\"\"\"\nb = '''\n[y]\n'''\nc = 1", "a:1 b:4 c:7"},
		{"quotes before the closing ones", "a = \"\"\"x\"\"\"\"\"\nb = ''''x'''''\nc = 1", "a:1 b:2 c:3"},
		{"empty strings", "a = \"\"\nb = ''\nc = \"\"\"\"\"\"\nd = 1", "a:1 b:2 c:3 d:4"},
		{"dates and numbers", "a = 1979-05-27 07:32:00Z # x\nb = +1_000.5e-3\nc = inf", "a:1 b:2 c:3"},
		{"arrays of tables", "[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 1", "a[0]:1 a:1 a[0].b:2 a[1]:3 a[1].b:4 a[1].c:5 a[1].c.d:6"},
		{"windows line ends", "a = [\r\n1,\r\n2]\r\nb = 1\r\n", "a:1 a[0]:2 a[1]:3 b:4"},
		{"a byte order mark", "\xef\xbb\xbfa = 1", "a:1"},
		{"no line end, only comments", "# a = 1", ""},
	} {
		t.Run(test.what, func(t *testing.T) {
			var raw map[string]any
			if _, err := toml.Decode(test.text, &raw); err != nil {
				t.Fatal(err)
			}
			if got := located(locate(test.text)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// located lists spots in the order of the text.
func located(spots map[string]spot) string {
	var d document
	for path, at := range spots {
		d.found = append(d.found, fault{Error{Key: path, Line: at.line}, at.offset*100 + len(path)})
	}
	var all []string
	for _, e := range d.errors() {
		all = append(all, fmt.Sprintf("%s:%d", e.Key, e.Line))
	}
	return strings.Join(all, " ")
}
