package profiles

import "testing"

func TestExpand(t *testing.T) {
	for _, test := range []struct{ in, instance, want, err string }{
		{"web", "", "web", ""},
		{"web-%i", "a", "web-a", ""},
		{"%i%i", "a", "aa", ""},
		{"%%", "", "%", ""},
		{"%%i", "a", "%i", ""},
		{"%%%i", "a", "%a", ""},
		{"100%", "", "100%", ""},
		{"50 % of", "", "50 % of", ""},
		{"%-%", "", "%-%", ""},
		{"%é", "", "%é", ""},
		{"%i", "%%", "%%", ""},
		{"%i", "", "", "has %i, which stands for the instance of a profile started as NAME@INSTANCE"},
		{"%20", "a", "", "has %2, where only %i and %% mean something"},
		{"%I", "a", "", "has %I, where only %i and %% mean something"},
	} {
		got, err := expand(test.in, test.instance)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if got != test.want || message != test.err {
			t.Errorf("%q with %q: got %q, error %q, want %q, error %q", test.in, test.instance, got, message, test.want, test.err)
		}
		if back, err := expand(escape(test.in), ""); err != nil || back != test.in {
			t.Errorf("%q escaped and expanded: got %q, %v", test.in, back, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "0", "web", "web-1", "a--b", "abcdefghijklmnopqr"} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: got error %v, want none", name, err)
		}
	}
	for _, name := range []string{"", "-", "-a", "a-", "A", "a_b", "a.b", "a b", "ä", "a\n", "abcdefghijklmnopqrs", "../a"} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
}
