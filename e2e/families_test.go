package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// family is a row of a reach test: the families in which questions are asked, or ports published.
type family struct {
	name      string
	four, six bool
}

func families() []family {
	return []family{{"ipv4", true, false}, {"ipv6", false, true}, {"both", true, true}}
}

// inEach asks questions, written with addresses of IPv4, in a subtest for each family: as they are, with the addresses of
// IPv6 in their place, and both at once. The host and the client have both since six.
func (h host) inEach(questions []question) {
	h.t.Helper()
	for _, f := range families() {
		h.t.Run(f.name, func(t *testing.T) { h.in(t).ask(h.of(f, questions)) })
	}
}

// of returns questions in the families of a row.
func (h host) of(f family, questions []question) (asked []question) {
	h.t.Helper()
	if f.four {
		asked = slices.Clone(questions)
	}
	if f.six {
		asked = append(asked, h.asSix(questions)...)
	}
	return asked
}

// fourInText finds an address of IPv4 in a text, and whether a port follows, before which IPv6 needs brackets.
var fourInText = regexp.MustCompile(`(\d+\.\d+\.\d+\.\d+)(:?)`)

// asSix returns questions with the addresses of IPv6. Nothing is published on ::1.
func (h host) asSix(questions []question) []question {
	h.t.Helper()
	twins := map[string]string{"127.0.0.1": "::1"}
	for _, b := range boxes(h) {
		twins[b.Address] = b.Address6
	}
	in := func(text string) string {
		return fourInText.ReplaceAllStringFunc(text, func(found string) string {
			addr, port := strings.CutSuffix(found, ":")
			twin := cmp.Or(twins[addr], sixOf(addr))
			if port {
				return "[" + twin + "]:"
			}
			return twin
		})
	}
	var six []question
	for _, q := range questions {
		q.address, q.answer = in(q.address), in(q.answer)
		if strings.HasPrefix(q.address, "[::1]:") {
			q.answer = ""
		}
		six = append(six, q)
	}
	return six
}

// sixOf returns the address of IPv6 that stands at the place of one of IPv4 on a wire of the tests.
func sixOf(four string) string {
	wires := strings.NewReplacer("192.0.2.", "2001:db8:7::", "203.0.113.", "2001:db8:9::")
	return wires.Replace(four)
}

// publishedIn returns a profile whose ports are published in the families of a row.
func publishedIn(f family, profile string) string {
	switch f.name {
	case "ipv4":
		profile = strings.NewReplacer(`["7000", "17`, `["7000:7000", "17`, `"9000-9010"`, `"9000-9010:9000-9010"`, `"5300/udp"`, `"5300:5300/udp"`).Replace(profile)
		return everyPort.ReplaceAllString(profile, `"0.0.0.0:$1"`)
	case "ipv6":
		profile = strings.NewReplacer(`["7000", "17`, `["7000:7000", "17`, `"9000-9010"`, `"9000-9010:9000-9010"`, `"5300/udp"`, `"5300:5300/udp"`,
			`"192.0.2.10:7010:7000", "127.0.0.1:7020:7000"`, `"[2001:db8:7::10]:7010:7000"`).Replace(profile)
		return everyPort.ReplaceAllString(profile, `"[::]:$1"`)
	}
	return strings.Replace(profile, `"192.0.2.10:7010:7000"`, `"192.0.2.10:7010:7000", "[2001:db8:7::10]:7010:7000"`, 1)
}

// everyPort finds the ports of a profile that name no address of the host.
var everyPort = regexp.MustCompile(`"([0-9-]+:[0-9-]+(?:/udp)?)"`)

// publishes are questions that ports of the boxes all and few answer, in the family in which they are published.
func publishes(all, few string) []question {
	toClient := func(port int) string { return fmt.Sprintf("on %s:%d to %s:", all, port, testhost.ClientAddr) }
	return []question{
		// The box sees who asks.
		{"client", "tcp", "192.0.2.1:7000", toClient(7000)},
		{"client", "tcp", "192.0.2.1:17000", toClient(7000)},
		{"client", "tcp", "192.0.2.1:9000", toClient(9000)},
		{"client", "tcp", "192.0.2.1:9010", toClient(9010)},
		{"client", "tcp", "192.0.2.1:19003", toClient(9003)},
		{"client", "udp", "192.0.2.1:5300", "box on"},
		{"client", "udp", "192.0.2.1:15300", "to 192.0.2.2:"},
		// Published on all addresses of the host, or on one.
		{"client", "tcp", "192.0.2.10:7000", toClient(7000)},
		{"client", "tcp", "192.0.2.10:7010", toClient(7000)},
		// The host reaches what is published on any address of its own, allow_from or not.
		{"host", "tcp", "127.0.0.1:7000", "box on " + all + ":7000"},
		{"host", "tcp", "192.0.2.1:7000", "box on " + all + ":7000"},
		{"host", "tcp", "127.0.0.1:7020", "box on " + all + ":7000"},
		{"host", "tcp", "192.0.2.10:7010", "box on " + all + ":7000"},
		{"host", "udp", "127.0.0.1:5300", "box on"},
		{"host", "tcp", "127.0.0.1:27000", "box on " + few + ":7000"},
		// A box reaches its own published ports, and the other's.
		{"box all", "tcp", "192.0.2.1:7000", "box on " + all + ":7000"},
		{"box all", "udp", "192.0.2.1:5300", "box on"},
		{"box few", "tcp", "192.0.2.1:7000", "box on " + all + ":7000"},
		{"box few", "tcp", "192.0.2.1:27000", "box on " + few + ":7000"},
	}
}

// unanswered returns questions that nobody answers.
func unanswered(questions []question) []question {
	asked := slices.Clone(questions)
	for i := range asked {
		asked[i].answer = ""
	}
	return asked
}

// otherwise are questions of which published ports decide nothing.
func otherwise(all, few string) []question {
	return []question{
		// Not published: on that address, a port beside the range, a box's port under the other protocol, the box itself.
		{"client", "tcp", "192.0.2.1:7010", ""},
		{"client", "tcp", "192.0.2.1:7020", ""},
		{"host", "tcp", "192.0.2.1:7020", ""},
		{"client", "tcp", "192.0.2.1:9011", ""},
		{"client", "tcp", "192.0.2.1:5300", ""},
		{"client", "tcp", all + ":7000", ""},
		{"client", "udp", all + ":5300", ""},
		{"client", "tcp", few + ":7000", ""},
		// allow_from is another client.
		{"client", "tcp", "192.0.2.1:27000", ""},
		{"client", "udp", "192.0.2.1:25300", ""},
		// A box reaches the world and the other box itself.
		{"box all", "tcp", "192.0.2.2:6001", "client on 192.0.2.2:6001 to 192.0.2.1:"},
		{"box all", "udp", "192.0.2.2:6001", "client on"},
		{"box few", "tcp", all + ":7000", "box on " + all + ":7000"},
	}
}

// allowed are questions of the client whom allow_from names.
func allowed(few string) []question {
	return []question{
		{"client", "tcp", "192.0.2.1:27000", "box on " + few + ":7000 to 192.0.2.3:"},
		{"client", "udp", "192.0.2.1:25300", "to 192.0.2.3:"},
	}
}

// Ports published on IPv4, on IPv6 and on both answer there and in no other family. The host and the client have both.
func TestWhatIsPublishedIsReachedAndNothingElse(t *testing.T) {
	h := newHost(t)
	h.twice()
	h.serve(h.probe, "serve", "client", "tcp/:6001", "udp/:6001")
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) { h.in(t).reachedIn(f) })
	}
}

// twice gives the host two addresses of each family. The host speaks from the first.
func (h host) twice() {
	h.t.Helper()
	h.six()
	h.sh("ip addr add 192.0.2.10/24 dev eth0; ip addr add 2001:db8:7::10/64 dev eth0 nodad preferred_lft 0")
}

// reachedIn asks all there is to ask of two boxes whose ports are published in the families of a row.
func (h host) reachedIn(f family) {
	h.profile("all", publishedIn(f, allProfile))
	h.profile("few", publishedIn(f, fewProfile))
	h.must("boxrun", "up", "all", "few")
	list := boxes(h)
	all, few := list[0].Address, list[1].Address
	for _, b := range list {
		net6 := netip.PrefixFrom(netip.MustParseAddr(b.Address6), 64).Masked()
		h.client("sh", "-c", fmt.Sprintf("ip route replace 10.22.0.0/16 via 192.0.2.1; ip route replace %s via 2001:db8:7::1", net6))
	}
	in := func(published bool, questions []question) []question {
		if published {
			return questions
		}
		return unanswered(questions)
	}
	questions := slices.Concat(in(f.four, publishes(all, few)), in(f.six, h.asSix(publishes(all, few))), otherwise(all, few), h.asSix(otherwise(all, few)))
	for _, policy := range []string{"ACCEPT", "DROP"} {
		h.t.Run("FORWARD policy "+policy, func(t *testing.T) {
			h.sh("iptables -P FORWARD " + policy + "; ip6tables -P FORWARD " + policy)
			h.in(t).ask(questions)
		})
	}
	h.t.Run("allow_from", func(t *testing.T) {
		h := h.in(t)
		moves := func(from, to string) {
			h.client("sh", "-c", strings.NewReplacer("FROM", from, "TO", to).Replace("ip addr del 192.0.2.FROM/24 dev eth0; ip addr add 192.0.2.TO/24 dev eth0; "+
				"ip addr del 2001:db8:7::FROM/64 dev eth0; ip addr add 2001:db8:7::TO/64 dev eth0 nodad"))
		}
		moves("2", "3")
		h.ask(append(in(f.four, allowed(few)), in(f.six, h.asSix(allowed(few)))...))
		moves("3", "2")
	})
	h.must("boxrun", "down", "all", "few")
}

// printed finds what up prints of a published port.
var printed = regexp.MustCompile(`(?m)^boxrun: web: (.*):(\d+)->80/tcp on (.*), for anyone`)

// Each address of the host by each port is asked by the client: 200 where up says that the box is published, and nothing
// anywhere else.
func TestWhatUpPrintsIsReachedAndNothingElse(t *testing.T) {
	h := newHost(t)
	h.twice()
	h.otherLink()
	for _, row := range []struct{ family, keys string }{
		{"ipv4", `ports = ["0.0.0.0:8080:80", "192.0.2.10:8081:80"]`},
		{"ipv4", `ports = ["8080:80", "192.0.2.10:8081:80"]` + "\nsubnet6 = \"\""},
		{"ipv4", `ports = ["0.0.0.0:8080:80", "192.0.2.10:8081:80"]` + "\nexternal = \"other0\""},
		{"ipv6", `ports = ["[::]:8080:80", "[2001:db8:7::10]:8081:80"]`},
		{"both", `ports = ["8080:80", "192.0.2.10:8081:80", "[2001:db8:7::10]:8082:80"]`},
		{"both", `ports = ["8080:80"]` + "\nexternal = \"other0\""},
	} {
		t.Run(row.family+" "+row.keys, func(t *testing.T) { h.in(t).asPrinted(row.keys) })
	}
}

// asPrinted starts a box, and has the client ask each address of the host as up says.
func (h host) asPrinted(keys string) {
	h.profile("web", "image = \"/srv/web\"\n[network]\n"+keys+"\n[ready]\ntcp = [80]\n")
	r := h.run("boxrun", "up", "web")
	if r.Code != 0 {
		h.t.Fatal(r)
	}
	defer h.must("boxrun", "down", "web")
	lines := printed.FindAllStringSubmatch(r.Stderr, -1)
	if len(lines) != strings.Count(keys, ":80\"") {
		h.t.Fatalf("up says %s\nwant a line for each port of %s", r.Stderr, keys)
	}
	for _, at := range h.addressesAsked() {
		for _, line := range lines {
			to := strings.TrimSuffix(netip.AddrPortFrom(at.addr, 0).String(), "0") + line[2]
			want := map[bool]string{true: "200", false: "000"}[at.said(line[1], line[3])]
			if got := code(h.ClientCommand(h.t.Context(), asks("http://"+to+"/")...)); got != want {
				h.t.Errorf("%s: got %s, want %s, as up says %q", to, got, want, line[0])
			}
		}
	}
}

// addressOfHost is an address of the host, and its device.
type addressOfHost struct {
	addr   netip.Addr
	device string
}

// said reports whether up says of an address, by what it prints of a port before and behind its number, that the client
// reaches the port there.
func (a addressOfHost) said(host, where string) bool {
	switch where {
	case "ALL addresses of the host":
		return true
	case "ALL IPv4 addresses of the host":
		return a.addr.Is4()
	case "ALL IPv6 addresses of the host":
		return a.addr.Is6()
	case "that address":
		return strings.Trim(host, "[]") == a.addr.String()
	}
	family, device, _ := strings.Cut(strings.TrimPrefix(where, "the "), "addresses of ")
	return device == a.device && (family == "" || a.addr.Is4())
}

// addressesAsked returns the addresses by which the client can ask the host. To those of the bridge the client gets a route.
func (h host) addressesAsked() []addressOfHost {
	h.t.Helper()
	var links []struct {
		Name  string `json:"ifname"`
		Addrs []struct {
			Local netip.Addr `json:"local"`
			Bits  int        `json:"prefixlen"`
			Scope string     `json:"scope"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(h.must("ip", "-j", "addr")), &links); err != nil {
		h.t.Fatal(err)
	}
	var all []addressOfHost
	for _, link := range links {
		for _, a := range link.Addrs {
			if a.Scope != "global" {
				continue
			}
			all = append(all, addressOfHost{a.Local, link.Name})
			if via := map[bool]string{true: "192.0.2.1", false: "2001:db8:7::1"}[a.Local.Is4()]; link.Name == "sbr0" {
				h.client("ip", "route", "replace", netip.PrefixFrom(a.Local, a.Bits).Masked().String(), "via", via)
			}
		}
	}
	return all
}
