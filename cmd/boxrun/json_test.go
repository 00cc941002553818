package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/doctor"
	"boxrun/launcher/kept"
	"boxrun/launcher/stats"
	"boxrun/launcher/trace"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// printed has, for each verb with --json, a value of the type the verb prints.
var printed = map[string]any{
	"ps": &launcher.Status{}, "status": &launcher.Detail{}, "stats": &stats.Stats{}, "diff": &launcher.Diff{},
	"doctor": &doctor.Check{}, "trace": &trace.Event{}, "kept list": &kept.Item{}, "host show": &netsetup.Holding{},
	"profile list": &profiles.Found{}, "profile show": &profiles.Shown{},
}

// The page of JSON has every key of every verb that prints JSON, and no other.
func TestPageHasTheKeysOfJSON(t *testing.T) {
	text, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	page := keysOnPage(string(text))
	page["status"] = slices.Compact(slices.Sorted(slices.Values(append(page["status"], page["ps"]...))))
	for _, verb := range verbsWithJSON(rootCommand(), "") {
		v, known := printed[verb]
		if !known {
			t.Errorf("no type of what \"boxrun %s --json\" prints", verb)
			continue
		}
		if got, want := page[verb], keysOf(t, v); !slices.Equal(got, want) {
			t.Errorf("boxrun %s: the page has\n%q\nwant\n%q", verb, got, want)
		}
	}
}

// verbsWithJSON returns the verbs below cmd that have a flag --json.
func verbsWithJSON(cmd *cobra.Command, name string) []string {
	var verbs []string
	if cmd.Flags().Lookup("json") != nil {
		verbs = append(verbs, name)
	}
	for _, below := range cmd.Commands() {
		verbs = append(verbs, verbsWithJSON(below, strings.TrimSpace(name+" "+below.Name()))...)
	}
	return verbs
}

// keysOnPage returns for each verb with a heading the keys of its table, sorted: the words in backticks in the first
// column.
func keysOnPage(text string) map[string][]string {
	keys := map[string][]string{}
	for _, part := range strings.Split(text, "\n## `boxrun ")[1:] {
		verb, rest, _ := strings.Cut(part, "`")
		for row := range strings.Lines(rest) {
			if cells := strings.Split(row, "|"); len(cells) > 2 {
				for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
					keys[verb] = append(keys[verb], m[1])
				}
			}
		}
		slices.Sort(keys[verb])
	}
	return keys
}

// keysOf returns the keys of v as JSON, with all that can be left out there, sorted.
func keysOf(t *testing.T, v any) []string {
	t.Helper()
	fill(reflect.ValueOf(v).Elem())
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	keys := branches(tree, "")
	slices.Sort(keys)
	return keys
}

// fill gives a value to everything in v but hidden pointers, which are there to be left out of JSON.
func fill(v reflect.Value) {
	switch {
	case !v.CanSet():
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
	case v.Type() == reflect.TypeFor[netip.Prefix]():
		v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.1/24")))
	case v.Type() == reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			hidden := strings.HasPrefix(v.Type().Name(), "Shown") || strings.HasPrefix(v.Type().Name(), "shown")
			if !hidden || v.Field(i).Kind() != reflect.Pointer {
				fill(v.Field(i))
			}
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case v.Kind() == reflect.String:
		v.SetString("x")
	}
}

// branches returns the paths of all keys below a decoded value. Entries of a list are one with the list.
func branches(tree any, path string) []string {
	var keys []string
	switch tree := tree.(type) {
	case []any:
		for _, entry := range tree {
			keys = append(keys, branches(entry, path)...)
		}
	case map[string]any:
		for key, below := range tree {
			key = strings.TrimPrefix(path+"."+key, ".")
			keys = append(append(keys, key), branches(below, key)...)
		}
	}
	return keys
}
