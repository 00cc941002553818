package pacemaker

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"boxrun/profiles"
)

// configuration is where every host of a cluster keeps the configuration of all of the cluster.
const configuration = "/var/lib/pacemaker/cib/cib.xml"

// largest bounds how much of a configuration is read: a hundred times a large cluster's.
const largest = 64 << 20

// Here reports whether this host is, or was, in a cluster of Pacemaker.
func Here() bool {
	_, err := os.Stat(configuration)
	return err == nil
}

// ManagerOf returns the name of the resource by which Pacemaker starts and stops a box; "" for none, as on a host without
// Pacemaker. A resource is the cluster's, wherever the box runs.
func ManagerOf(box string) (resource string, err error) {
	f, err := os.Open(configuration)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	resource, err = managerIn(io.LimitReader(f, largest), box)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", configuration, err)
	}
	return resource, nil
}

// primitive is a resource by itself, or within a clone or a group.
type primitive struct {
	ID       string `xml:"id,attr"`
	Class    string `xml:"class,attr"`
	Provider string `xml:"provider,attr"`
	Type     string `xml:"type,attr"`
	Settings []struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	} `xml:"instance_attributes>nvpair"`
}

// managerIn is ManagerOf for a configuration.
func managerIn(cib io.Reader, box string) (resource string, err error) {
	for d := xml.NewDecoder(cib); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "primitive" {
			continue
		}
		var p primitive
		if err := d.DecodeElement(&p, &start); err != nil {
			return "", err
		}
		if profile := p.profile(); profile != "" && profiles.BoxName(profile) == box {
			return p.ID, nil
		}
	}
}

// profile returns the profile that a resource starts, by the agent of boxrun or by a unit of systemd; "" for any other
// resource.
func (p primitive) profile() string {
	if p.Class == "systemd" {
		if profile, ok := strings.CutPrefix(p.Type, "boxrun@"); ok {
			return strings.TrimSuffix(profile, ".service")
		}
		return ""
	}
	if p.Class != "ocf" || p.Provider != "boxrun" || p.Type != "box" {
		return ""
	}
	for _, s := range p.Settings {
		if s.Name == "profile" {
			return s.Value
		}
	}
	return ""
}
