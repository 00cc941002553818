package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is kept answers for the same rules of the same program only, and only from a file that is root's alone and whole.
func TestMemory(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin)
	program := filepath.Join(bin, "iptables-save")
	write(t, program, "#!/bin/false\n", 0o755)
	m := Memory{Dir: dir, While: filepath.Join(dir, "host.json")}
	m.keep("iptables", 7, "*filter\nCOMMIT\n")
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Fatalf("with nothing up, %v was kept", left)
	}
	file := filepath.Join(dir, "iptables.kept-rules")
	for name, spoil := range map[string]string{
		"":                "true",
		"shorter":         "truncate -s -1 $F",
		"empty":           "truncate -s 0 $F",
		"longer":          "echo '-A INPUT' >> $F",
		"of all to write": "chmod 622 $F",
		"of all to read":  "chmod 644 $F",
		"a link":          "mv $F $F.there && ln -s $F.there $F",
		"of other times":  "sed -i 's/^boxrun 1 ....../boxrun 1 zzzzzz/' $F && chmod 600 $F",
		"of other saves":  "touch -d 2001-01-01 $PROGRAM",
		"a directory":     "rm $F && mkdir $F",
	} {
		_ = os.RemoveAll(file)
		write(t, m.While, "{}", 0o600)
		m.keep("iptables", 7, "*filter\nCOMMIT\n")
		sh := exec.Command("/bin/sh", "-c", spoil)
		sh.Env = []string{"PATH=/usr/bin:/bin", "F=" + file, "PROGRAM=" + program}
		if out, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", spoil, err, out)
		}
		if got := m.recall("iptables", 7); (got == "*filter\nCOMMIT\n") != (name == "") {
			t.Errorf("file %s: recalled %q", name, got)
		}
		if got := m.recall("iptables", 8) + m.recall("ip6tables", 7); got != "" {
			t.Errorf("of other rules recalled %q", got)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// A listing is kept only where the number of the rules tells of each change.
func TestPassing(t *testing.T) {
	const iif = `{"match":{"op":"==","left":{"meta":{"key":"iif"}},"right":"%"}}`
	for listing, want := range map[string]bool{
		`{"rule":{"expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth0"}}]}}`: false,
		strings.ReplaceAll(iif, "%", "lo"):                                                            false,
		strings.ReplaceAll(iif, "%", "eth0"):                                                          true,
		strings.ReplaceAll(iif, "%", "lo") + strings.ReplaceAll(iif, "%", "lo1"):                      true,
		`{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","iif"]}},"right":false}}`: false,
		`{"set":{"name":"seen","type":"ipv4_addr","flags":["dynamic"]}}`:                              true,
		`{"set":{"name":"ifs","type":"iface_index"}}`:                                                 true,
	} {
		if got := passing(listing); got != want {
			t.Errorf("%s: got %v, want %v", listing, got, want)
		}
	}
}
