package netsetup

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Firewall is every rule of the host that packets may meet, at one moment: those of iptables in both of its backends, as
// the kernel obeys both, and those of native nftables. Reading it changes nothing.
type Firewall struct {
	Backend string // of the iptables that boxrun uses: nft or legacy
	Version string // of that iptables
	Native  bool   // native nftables could be looked at: nft is installed
	tables  []ruleTable
	nft     nftRules
}

// ruleTable is one table of one backend.
type ruleTable struct {
	backend, name string
	program       string            // by which its rules are changed: the plain name for the backend in use
	policies      map[string]string // of the built-in chains
	rules         map[string][]walkRule
}

// ReadFirewall reads the rules. ErrNoIptables where iptables is not installed. Tools that are not installed have no
// rules to show: a table of theirs in the kernel is not seen.
func ReadFirewall() (Firewall, error) {
	version, err := iptablesVersion()
	if err != nil {
		return Firewall{}, err
	}
	f := Firewall{Backend: "nft", Version: version}
	if !strings.Contains(version, "nf_tables") {
		f.Backend = "legacy"
	}
	for _, backend := range []string{"nft", "legacy"} {
		tables, err := readBackend(backend, backend == f.Backend)
		if err != nil {
			return f, err
		}
		f.tables = append(f.tables, tables...)
	}
	f.nft, f.Native, err = readNFT()
	return f, err
}

func iptablesVersion() (string, error) {
	if _, err := exec.LookPath("iptables-save"); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoIptables, err)
	}
	out, err := runProgram("", "iptables", "-V")
	return strings.TrimSpace(out), err
}

// readBackend gives the tables of a backend. The one in use is asked under its plain name.
func readBackend(backend string, used bool) ([]ruleTable, error) {
	program := "iptables-" + backend
	if used {
		program = "iptables"
	} else if _, err := exec.LookPath(program + "-save"); err != nil || backend == "legacy" && !legacyInUse() {
		return nil, nil
	}
	out, err := runProgram("", program+"-save", "-c")
	if err != nil {
		return nil, err
	}
	return parseSave(backend, program, out), nil
}

// legacyInUse says whether the kernel has tables of the legacy backend: asking its tool would load their modules.
func legacyInUse() bool {
	names, err := os.ReadFile("/proc/net/ip_tables_names")
	return err == nil && len(names) > 0
}

// parseSave reads the output of iptables-save -c.
func parseSave(backend, program, text string) []ruleTable {
	var tables []ruleTable
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			tables = append(tables, ruleTable{backend: backend, name: name, program: program,
				policies: map[string]string{}, rules: map[string][]walkRule{}})
			continue
		}
		if len(tables) == 0 {
			continue
		}
		tables[len(tables)-1].read(line)
	}
	return tables
}

// read takes in ":CHAIN POLICY [..]" or "[packets:bytes] -A CHAIN RULE".
func (t *ruleTable) read(line string) {
	if chain, ok := strings.CutPrefix(line, ":"); ok {
		if f := strings.Fields(chain); len(f) > 1 {
			t.policies[f[0]] = f[1]
		}
		return
	}
	var packets uint64
	if counters, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(line, "[") {
		count, _, _ := strings.Cut(counters[1:], ":")
		packets, _ = strconv.ParseUint(count, 10, 64) // iptables-save prints numbers there
		line = rest
	}
	rest, ok := strings.CutPrefix(line, "-A ")
	if !ok {
		return
	}
	chain, text, _ := strings.Cut(rest, " ")
	r := parseWalkRule(normal(text))
	r.packets = packets
	t.rules[chain] = append(t.rules[chain], r)
}

func (t ruleTable) ruleText(chain string, r walkRule) string {
	return strings.TrimSpace(fmt.Sprintf("%s -t %s -A %s %s", t.program, t.name, chain, r.text))
}

func (t ruleTable) policyText(chain string) string {
	return fmt.Sprintf("%s -t %s -P %s DROP", t.program, t.name, chain)
}

// count gives the rules of a backend, others' and boxrun's.
func (f Firewall) count(backend string) (others, ours int) {
	for _, t := range f.tables {
		for chain, rules := range t.rules {
			for _, r := range rules {
				if t.backend != backend {
					continue
				}
				if Ours(t.ruleText(chain, r)) {
					ours++
				} else {
					others++
				}
			}
		}
	}
	return others, ours
}

// Mixed says what rules there are in the backend of iptables that boxrun does not use, or "" where there are none. The
// kernel obeys both.
func (f Firewall) Mixed() string {
	other := "legacy"
	if f.Backend == "legacy" {
		other = "nft"
	}
	switch others, ours := f.count(other); {
	case ours > 0:
		return fmt.Sprintf("%d of boxrun and %d of others in the %s backend", ours, others, other)
	case others > 0:
		return fmt.Sprintf("%d of others in the %s backend", others, other)
	}
	return ""
}

// Managers gives the programs that rules of the host speak of: Docker, ufw, firewalld and others.
func (f Firewall) Managers() []string {
	var found []string
	for _, m := range []struct{ prefix, name string }{
		{"DOCKER", "Docker"}, {"ufw-", "ufw"}, {"KUBE-", "Kubernetes"}, {"NETAVARK", "podman"}, {"CNI-", "CNI portmap"},
		{"LIBVIRT_", "libvirt"}, {"f2b-", "fail2ban"}, {"INPUT_ZONES", "firewalld"}, {"FORWARD_direct", "firewalld"},
	} {
		has := slices.ContainsFunc(f.tables, func(t ruleTable) bool {
			for chain := range t.policies {
				if strings.HasPrefix(chain, m.prefix) {
					return true
				}
			}
			return false
		})
		if has && !slices.Contains(found, m.name) {
			found = append(found, m.name)
		}
	}
	if f.nft.hasTable("firewalld") && !slices.Contains(found, "firewalld") {
		found = append(found, "firewalld")
	}
	return found
}

// Policy gives the policy of filter's FORWARD, ACCEPT where the table was never used.
func (f Firewall) Policy() string {
	for _, t := range f.tables {
		if t.name == "filter" && t.policies["FORWARD"] == "DROP" {
			return "DROP"
		}
	}
	return "ACCEPT"
}

// Translated counts the connections that boxrun's rules for a box have sent there since they were made, by the number of
// the first host port of each rule.
func (f Firewall) Translated(box string) map[uint16]uint64 {
	counts := map[uint16]uint64{}
	for _, t := range f.tables {
		if t.name != "nat" {
			continue
		}
		for _, r := range t.rules[prefixDNAT+box] {
			for _, o := range r.options {
				if spans := parseSpans(strings.Join(o.values, ","), false); o.name == "--dport" && len(spans) > 0 {
					counts[uint16(spans[0].first)] += r.packets
				}
			}
		}
	}
	return counts
}

// Rules gives the rules of others, as typed, for which hold says yes.
func (f Firewall) Rules(hold func(rule string) bool) []string {
	var found []string
	for _, t := range f.tables {
		chains := make([]string, 0, len(t.rules))
		for chain := range t.rules {
			chains = append(chains, chain)
		}
		slices.Sort(chains)
		for _, chain := range chains {
			for _, r := range t.rules[chain] {
				if text := t.ruleText(chain, r); !Ours(text) && hold(text) {
					found = append(found, text)
				}
			}
		}
	}
	return found
}
