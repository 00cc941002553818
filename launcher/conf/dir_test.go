package conf

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

var update = flag.Bool("update", false, "write testdata anew")

func webConf() Dir {
	return Dir{
		Systemd: true,
		Hosts: hostsText([]string{"web.example.org", "web"}, netip.MustParseAddr("10.22.0.2"),
			[]neighbour{{netip.MustParseAddr("10.22.0.3"), []string{"db", "db.example.org"}}}),
		Names: Resolvers{
			Servers: []netip.Addr{
				netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
				netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.4"),
			},
			Search:  []string{"a.example", "b.example"},
			Options: []string{"ndots:3", "timeout:1"},
		},
		Environment: map[string]string{"DATABASE_URL": "postgres://u:p%40ss@db/x", "A": ""},
		Mask:        []string{"nginx", "getty@tty1.service", "auditd.service"},
		TasksHeld:   true,
		MachineID:   "0123456789abcdef0123456789abcdef",
	}
}

// listing shows the files and binds as one text.
func listing(c Dir) string {
	var b strings.Builder
	for _, f := range c.Files() {
		if f.Link != "" {
			fmt.Fprintf(&b, "== %s -> %s\n", f.Path, f.Link)
			continue
		}
		fmt.Fprintf(&b, "== %s %v\n%s", f.Path, f.Mode, f.Content)
	}
	for _, bind := range c.Binds("/run/boxrun/boxes/web/conf") {
		fmt.Fprintln(&b, "--bind", bind)
	}
	return b.String()
}

func TestConfDirIsAsWritten(t *testing.T) {
	for golden, confined := range map[string]bool{"testdata/confined.txt": true, "testdata/host.txt": false} {
		c := webConf()
		c.Confined = confined
		got := listing(c)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, got, string(want))
	}
}

func TestConfDirOfLittle(t *testing.T) {
	t.Run("another init", func(t *testing.T) {
		c := Dir{
			Hosts: hostsText([]string{"hello"}, netip.MustParseAddr("10.22.0.3"), nil),
			Names: Resolvers{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		}
		testkit.WantText(t, listing(c), `== resolv.conf -rw-r--r--
# Written by boxrun.
nameserver 192.0.2.1
== hosts -rw-r--r--
# Written by boxrun.
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
10.22.0.3 hello
--bind /run/boxrun/boxes/web/conf/resolv.conf:/etc/resolv.conf:ro
--bind /run/boxrun/boxes/web/conf/hosts:/etc/hosts:ro
`)
	})
	t.Run("no address and no name servers", func(t *testing.T) {
		testkit.WantText(t, listing(Dir{Hosts: hostsText([]string{"hello"}, netip.Addr{}, nil)}), `== resolv.conf -rw-r--r--
# Written by boxrun.
# No name server is known.
== hosts -rw-r--r--
# Written by boxrun.
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
127.0.1.1 hello
--bind /run/boxrun/boxes/web/conf/resolv.conf:/etc/resolv.conf:ro
--bind /run/boxrun/boxes/web/conf/hosts:/etc/hosts:ro
`)
	})
}

// How systemd reads these values was checked in a booted box; an e2e test repeats the check.
func TestEscapeEnvironment(t *testing.T) {
	for _, test := range []struct{ value, want string }{
		{`plain value`, `plain value`},
		{``, ``},
		{`$HOME ${X} 'single' ; # =`, `$HOME ${X} 'single' ; # =`},
		{`say "hi"`, `say \"hi\"`},
		{`C:\n\`, `C:\\n\\`},
		{"two\nlines\tand a tab", `two\nlines\tand a tab`},
		{`100%`, `100%`},
		{`5% of %`, `5% of %`},
		{`p%40ss %H %n`, `p%%40ss %%H %%n`},
		{`%%`, `%%%`},
		{`%%n`, `%%%%n`},
		{`grüße %ü`, `grüße %ü`},
	} {
		testkit.WantText(t, escapeEnvironment(test.value), test.want)
		text := environmentConf(map[string]string{"A": "first", "X": test.value})
		testkit.WantText(t, strings.Join(readEnvironment(text), "|"), "A=first|X="+test.value)
	}
}

func TestConfDirIsWrittenTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "boxes", "web")
	for range 2 {
		if err := webConf().At(dir).Write(); err != nil {
			t.Fatal(err)
		}
	}
	before := testkit.Tree(t, dir)
	if strings.Count(before, "/dev/null") != len(webConf().masked()) {
		t.Errorf("not every masked unit is a link to /dev/null:\n%s", before)
	}
	for _, f := range webConf().Files() {
		if f.Link == "" && !strings.Contains(before, fmt.Sprintf("%v %s  %q\n", f.Mode, f.Path, f.Content)) {
			t.Errorf("%s is not as it should be in:\n%s", f.Path, before)
		}
	}

	// A strange directory is put right.
	for _, spoil := range []func() error{
		func() error { return os.Remove(filepath.Join(dir, "masks/auditd.service")) },
		func() error { return os.WriteFile(filepath.Join(dir, "masks/strange"), nil, 0o644) },
		func() error { return os.Truncate(filepath.Join(dir, "hosts"), 3) },
		func() error { return os.Remove(filepath.Join(dir, "resolv.conf")) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
	}
	if err := webConf().At(dir).Write(); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, testkit.Tree(t, dir), before)
}

// A bind stays on the inode of its source: content for a running box must be written into the existing file.
func TestConfDirOfARunningBox(t *testing.T) {
	dir := t.TempDir()
	c := webConf()
	if err := c.At(dir).Write(); err != nil {
		t.Fatal(err)
	}
	bound, err := os.Open(filepath.Join(dir, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	c.Hosts = "127.0.0.1 localhost\n"
	if err := c.At(dir).Write(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1000)
	n, _ := bound.Read(got)
	testkit.WantText(t, string(got[:n]), c.Hosts)
}
