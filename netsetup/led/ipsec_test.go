package led

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// policy returns a policy of IPsec for all packets from src to dst. A tunnel has a template.
func policy(dir netlink.Dir, src, dst string, change func(*netlink.XfrmPolicy)) netlink.XfrmPolicy {
	_, from, _ := net.ParseCIDR(src)
	_, to, _ := net.ParseCIDR(dst)
	p := netlink.XfrmPolicy{Dir: dir, Src: from, Dst: to}
	change(&p)
	return p
}

func block(p *netlink.XfrmPolicy)  { p.Action = netlink.XFRM_POLICY_BLOCK }
func tunnel(p *netlink.XfrmPolicy) { p.Tmpls = []netlink.XfrmPolicyTmpl{{}} }
func bypass(*netlink.XfrmPolicy)   {}

// Of the policies of IPsec the one that comes first counts, if it is for all packets of the box.
func TestSecured(t *testing.T) {
	const out, fwd = netlink.XFRM_DIR_OUT, netlink.XFRM_DIR_FWD
	const all, boxes, other = "0.0.0.0/0", "10.22.0.0/16", "10.99.0.0/16"
	for name, c := range map[string]struct {
		list []netlink.XfrmPolicy
		want string
	}{
		"none":                   {nil, ""},
		"blocked to the box":     {[]netlink.XfrmPolicy{policy(fwd, all, "10.22.0.2/32", block)}, "blocks packets of 10.22.0.2, and of others: dir fwd src 0.0.0.0/0 dst 10.22.0.2/32"},
		"a tunnel of all from":   {[]netlink.XfrmPolicy{policy(out, boxes, all, tunnel)}, "encrypts packets of 10.22.0.2, and of others: dir out src 10.22.0.0/16 dst 0.0.0.0/0"},
		"a bypass first":         {[]netlink.XfrmPolicy{policy(out, boxes, boxes, bypass), policy(out, all, all, tunnel)}, ""},
		"a bypass of others":     {[]netlink.XfrmPolicy{policy(out, other, all, bypass), policy(out, all, all, tunnel)}, "encrypts"},
		"of others":              {[]netlink.XfrmPolicy{policy(out, all, other, block), policy(fwd, other, boxes, tunnel)}, ""},
		"for who comes in":       {[]netlink.XfrmPolicy{policy(netlink.XFRM_DIR_IN, all, boxes, tunnel)}, ""},
		"of a port":              {[]netlink.XfrmPolicy{policy(out, all, boxes, func(p *netlink.XfrmPolicy) { block(p); p.DstPort = 22 })}, ""},
		"of packets with a mark": {[]netlink.XfrmPolicy{policy(out, all, all, func(p *netlink.XfrmPolicy) { tunnel(p); p.Mark = &netlink.XfrmMark{Value: 1} })}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, d := range secured(c.list, netip.MustParseAddr("10.22.0.2")) {
				got += d.String() + "\n"
			}
			if !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got\n%s\nwant %q", got, c.want)
			}
		})
	}
}

// A kernel that has not loaded what answers for IPsec is not asked.
func TestAnswersXfrm(t *testing.T) {
	const head, socket = "sk               Eth Pid        Groups\n", "000000007396ab71 6   0          00000000\n"
	for text, want := range map[string]bool{head: false, head + socket: true, head + strings.ReplaceAll(socket, " 0 ", " 7 "): false} {
		file := filepath.Join(t.TempDir(), "netlink")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := answersXfrm(file); got != want || err != nil {
			t.Errorf("of\n%s: got %v %v, want %v", text, got, err, want)
		}
	}
}
