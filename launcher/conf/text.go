package conf

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"boxrun/launcher/confine"
	"boxrun/launcher/list"
)

// The texts of the files of a Dir.

// tasksConf is a drop-in for the system.conf of a box with a limit on pids. Without the drop-in, systemd in the box would
// hold every unit, and also init together with commands from outside, to 15% of the box's limit.
const tasksConf = "# Written by boxrun: [resources] pids of the profile holds for the whole box.\n" +
	"[Manager]\nDefaultTasksMax=infinity\n"

// environmentConf returns a drop-in of systemd's system.conf for setting env in every service, sorted by name.
func environmentConf(env map[string]string) string {
	var b strings.Builder
	b.WriteString("# Written by boxrun: [systemd] environment of the profile.\n[Manager]\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "DefaultEnvironment=\"%s=%s\"\n", name, escapeEnvironment(env[name]))
	}
	return b.String()
}

// readEnvironment returns the variables, as NAME=VALUE, of a text that environmentConf made.
func readEnvironment(text string) []string {
	unescaped := strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`, `\"`, `"`, "%%", "%") // as escapeEnvironment writes
	var env []string
	for line := range strings.Lines(text) {
		if quoted, ok := strings.CutPrefix(strings.TrimSuffix(line, "\"\n"), "DefaultEnvironment=\""); ok {
			env = append(env, unescaped.Replace(quoted))
		}
	}
	return env
}

// escapeEnvironment returns value escaped for double quotes in DefaultEnvironment=. A dollar sign has no meaning
// there. A % before a letter, a digit or another % would begin a specifier, so the % is doubled. For an unknown
// specifier systemd drops the whole variable. systemd before 249 knows no specifiers there and keeps the doubled %.
func escapeEnvironment(value string) string {
	var b strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\n':
			b.WriteString(`\n`)
			continue
		case c == '\t':
			b.WriteString(`\t`)
			continue
		case c == '\\' || c == '"':
			b.WriteByte('\\')
		case c == '%' && specifiers.MatchString(value[i+1:]):
			b.WriteByte('%')
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// specifiers matches what has a meaning after a %, now or in a future systemd.
var specifiers = regexp.MustCompile(`^[%0-9A-Za-z]`)

// resolvConf returns the content of a resolv.conf. Only three servers are written, because the C library reads no
// more. The file is made even without any servers: otherwise the box would see Apptainer's own.
func (r Resolvers) resolvConf() string {
	if r.File != "" {
		return r.File
	}
	var b strings.Builder
	b.WriteString("# Written by boxrun.\n")
	if len(r.Servers) == 0 {
		b.WriteString("# No name server is known.\n")
	}
	for _, server := range r.Servers[:min(len(r.Servers), 3)] {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.String()
}

// resolvedConf returns a drop-in of resolved.conf. FallbackDNS= is empty, because without servers of ours
// systemd-resolved would ask the public servers compiled into it.
func (r Resolvers) resolvedConf() string {
	servers := strings.Join(list.Map(r.Servers, netip.Addr.String), " ")
	text := "# Written by boxrun.\n[Resolve]\nDNS=" + servers + "\nFallbackDNS=\n"
	if len(r.Search) > 0 {
		text += "Domains=" + strings.Join(r.Search, " ") + "\n"
	}
	return text
}

// keptNames is a path in a box at the level host that always has boxrun's resolv.conf, even if /etc/resolv.conf is a link.
const keptNames = "/etc/boxrun/resolv.conf"

// tmpfilesConf returns a file of tmpfiles.d. For images with a link at /etc/resolv.conf systemd-tmpfiles makes the usual
// targets of such links into links to boxrun's resolv.conf, unless the target exists. A program that owns a target
// replaces the link when the program starts. Besides, systemd-tmpfiles takes masks of generators away.
func tmpfilesConf(confined bool) string {
	kept := keptNames
	if confined {
		kept = confine.KeptNames
	}
	text := "# Written by boxrun, for an /etc/resolv.conf that is a link to a file nobody makes.\n"
	for _, path := range []string{
		"/run/systemd/resolve/stub-resolv.conf",
		"/run/systemd/resolve/resolv.conf",
		"/run/NetworkManager/resolv.conf",
	} {
		text += "L " + path + " - - - - " + kept + "\n"
	}
	text += "# Of use once somebody changes the box that runs.\n"
	for _, path := range confine.BootMasks() {
		text += "r " + path + "\n"
	}
	return text
}

// hostsText returns the hosts file of a box with the given names. The other boxes follow with their names. If addr is
// invalid, the box's own names have the address 127.0.1.1, as on Debian.
func hostsText(names []string, addr netip.Addr, others []neighbour) string {
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 1, 1})
	}
	var b strings.Builder
	b.Grow(128 + 64*len(others))
	b.WriteString("# Written by boxrun.\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, named := range append([]neighbour{{addr, names}}, others...) {
		b.WriteString(named.Addr.String())
		for _, name := range named.Names {
			b.WriteByte(' ')
			b.WriteString(name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
