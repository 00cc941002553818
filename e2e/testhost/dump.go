package testhost

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

//go:embed dump.sh
var dumpScript string

// Dump is everything on a host that boxrun may touch, as text for people: a section for each subject, without the lines
// that change by themselves.
type Dump string

// Dump takes the dump of a host and changes nothing there.
func (h *Host) Dump(ctx context.Context) (Dump, error) {
	r, err := h.Exec(ctx, "sh", "-c", dumpScript)
	if err != nil {
		return "", fmt.Errorf("dumping %s: %w", h.name, err)
	}
	return Dump(steady(r.Stdout)), nil
}

// changesShown limits the lines Diff shows of a section: a leftover link brings two hundred sysctls.
const changesShown = 12

// Diff returns the lines that differ between d and later, with - and +, below the names of their sections. Equal dumps
// return "". Lines that match a pattern of except are left out of both.
func (d Dump) Diff(later Dump, except ...string) string {
	var differences strings.Builder
	names := d.sections()
	onlyLater := slices.DeleteFunc(later.sections(), func(name string) bool { return slices.Contains(names, name) })
	for _, name := range slices.Concat(names, onlyLater) {
		changes := changed(without(d.Section(name), except), without(later.Section(name), except))
		if len(changes) == 0 {
			continue
		}
		if len(changes) > changesShown {
			changes = append(changes[:changesShown], fmt.Sprintf("... and %d more\n", len(changes)-changesShown))
		}
		differences.WriteString("== " + name + "\n" + strings.Join(changes, ""))
	}
	return differences.String()
}

// changed returns the lines that differ, with - and +.
func changed(before, after string) []string {
	var lines []string
	header := 3 // lines that name the texts
	for line := range strings.Lines(string(diff.Diff("", []byte(before), "", []byte(after)))) {
		if header--; header < 0 && (line[0] == '-' || line[0] == '+') {
			lines = append(lines, line)
		}
	}
	return lines
}

// sections returns the names of the sections, in order.
func (d Dump) sections() []string {
	var names []string
	for _, header := range regexp.MustCompile(`(?m)^== (.*)$`).FindAllStringSubmatch(string(d), -1) {
		names = append(names, header[1])
	}
	return names
}

// Section returns the lines of the section called name, "" without such a section.
func (d Dump) Section(name string) string {
	_, rest, _ := strings.Cut("\n"+string(d), "\n== "+name+"\n")
	if strings.HasPrefix(rest, "== ") {
		return "" // the section has no lines
	}
	text, _, more := strings.Cut(rest, "\n== ")
	if more {
		text += "\n"
	}
	return text
}

// without returns the lines of text that match no pattern.
func without(text string, patterns []string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		matches := func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(line) }
		if !slices.ContainsFunc(patterns, matches) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// volatile lines change on an idle host: counters, clocks, random values, and systemd's helpers that come and go.
var volatile = regexp.MustCompile(strings.Join([]string{
	`^#`, // iptables-save's time stamps
	`^fs\.(dentry-state|file-nr|inode-nr|inode-state|quota\.)`,
	`^kernel\.(ns_last_pid|pty\.nr|random\.)`,
	`^net\.netfilter\.nf_conntrack_count`,
	`^net\.ipv4\.(tcp_fastopen_key|udp_mem|tcp_mem)`,
	`^net\.ipv4\.neigh\..*\.(base_reachable|retrans)_time `, // rounded anew on every read
	`^[0-9]+ .*(udev-worker|systemd-udevd|systemd-hostnamed|systemd-timedated|sd-pam|ps -e|sh -c # Prints)`,
	`^/sys/fs/cgroup/system.slice/systemd-(hostnamed|timedated|localed|tmpfiles-clean)\.service`,
}, "|"))

var counters = regexp.MustCompile(`(?m)\[[0-9]+:[0-9]+\]$`)

// untouched matches a line inside a built-in table never written to, as shown by iptables-save and nft.
const untouched = `(:[A-Z]+ ACCEPT \[0:0\]|\tchain [A-Z]+ \{|\t\ttype (filter|nat|route) hook .* policy accept;|\t\}|)\n`

// emptyTable matches a table with only built-in, empty and accepting chains: from "*nat" to "COMMIT" in iptables-save,
// from "table ip nat {" to "}" in nft.
var emptyTable = regexp.MustCompile(`(?m)^(\*.*\n(` + untouched + `)*COMMIT|table .*\n(` + untouched + `)*\})\n`)

// steady drops from a raw dump the lines that change by themselves, and empty built-in tables, as iptables makes tables
// by looking.
func steady(raw string) string {
	var kept strings.Builder
	for line := range strings.Lines(strings.TrimRight(raw, "\n") + "\n") {
		if !volatile.MatchString(line) {
			kept.WriteString(line)
		}
	}
	return emptyTable.ReplaceAllString(counters.ReplaceAllString(kept.String(), "[0:0]"), "")
}
