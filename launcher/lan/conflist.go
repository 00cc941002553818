package lan

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// Name returns the name of the CNI network of a box. The names of bridges' networks begin otherwise.
func Name(box string) string { return "lan-" + box }

// NameBeside is Name for a box that is on a bridge as well, "" for any other box.
func NameBeside(b *box.Box) string {
	if !b.OnBoth() {
		return ""
	}
	return Name(b.Name)
}

// Path returns the path of the conflist of a box.
func Path(s *box.Store, name string) string { return s.Path("cni", Name(name)+".conflist") }

// Conflist returns the file by which Apptainer's CNI plugins know the LAN of a box; no file for a box elsewhere.
func Conflist(s *box.Store, b *box.Box) files.Set {
	if !b.OnLAN() {
		return files.Set{}
	}
	path := Path(s, b.Name)
	return files.Set{Doing: "telling Apptainer of the LAN", Files: []files.File{files.Dir(s.Path("cni")),
		{Path: path, Mode: 0o644, Whole: true, Content: text(b.Name, b.Parent, MAC(b.Name), b.Profile.Network)}}}
}

// MAC returns the MAC of the device of a box: the same at every start on this host, and another on every other host, as
// switches and DHCP servers know the box by the MAC. "": the host has no machine-id to make a MAC of.
func MAC(name string) string { return stableMAC("mac of box " + name) }

// stableMAC returns a MAC, locally administered, that is always the same for words on this host.
func stableMAC(words string) string {
	id, err := box.MachineID(words)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("02:%s:%s:%s:%s:%s", id[:2], id[2:4], id[4:6], id[6:8], id[8:10])
}

// The parts of a conflist, in the words of CNI.
type (
	conflist struct {
		Version string   `json:"cniVersion"`
		Name    string   `json:"name"`
		Plugins []plugin `json:"plugins"`
	}
	plugin struct {
		Type   string `json:"type"`
		Master string `json:"master"`
		Mode   string `json:"mode"`
		MAC    string `json:"mac,omitempty"`
		IPAM   ipam   `json:"ipam"`
	}
	ipam struct {
		Type      string    `json:"type,omitempty"` // "": none, and a DHCP client in the box asks for an address
		Addresses []address `json:"addresses,omitempty"`
		Routes    []route   `json:"routes,omitempty"`
	}
	address struct {
		Address netip.Prefix `json:"address"`
		Gateway netip.Addr   `json:"gateway,omitzero"`
	}
	route struct {
		To string `json:"dst"`
	}
)

// text returns the content of the conflist. Of the plugins' modes, "bridge" lets boxes on a LAN reach each other. Beside a
// bridge the plugin adds no route: to the LAN's gateway leads a table of answers alone.
func text(name, parent, mac string, n profiles.Network) string {
	p := plugin{Type: "macvlan", Master: parent, Mode: "bridge", MAC: mac}
	for _, own := range []struct {
		address
		everywhere string
		byBridge   bool // the bridge leads there
	}{
		{address{n.Address, n.Gateway}, "0.0.0.0/0", n.Mode != profiles.LANMode},
		{address{n.Address6, n.Gateway6}, "::/0", n.Mode != profiles.LANMode && n.Subnet6 != ""},
	} {
		if own.Address.IsValid() {
			p.IPAM.Type, p.IPAM.Addresses = "static", append(p.IPAM.Addresses, own.address)
		}
		if own.Gateway.IsValid() && !own.byBridge {
			p.IPAM.Routes = append(p.IPAM.Routes, route{own.everywhere})
		}
	}
	out, _ := json.MarshalIndent(conflist{"0.4.0", Name(name), []plugin{p}}, "", "  ") // of texts alone
	return string(out) + "\n"
}
