package dump

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Device is a link as far as a bridge is concerned.
type Device struct {
	Name    string
	Index   int
	Master  int // index of the bridge, or of another link that has taken this one; 0 for none
	Up      bool
	Hairpin bool // of a port of a bridge
}

// Devices returns the links of the caller's network by their names. The list takes a tenth of the time of that of
// [Links]: the kernel leaves the counters out, and what a Device has no place for is not read.
func Devices() (map[string]Device, error) {
	messages, err := Retry(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		request.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(withoutStats)))
		return request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	})
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	devices := make(map[string]Device, len(messages))
	for _, m := range messages {
		if len(m) >= unix.SizeofIfInfomsg {
			d := deviceOf(m)
			devices[d.Name] = d
		}
	}
	return devices, nil
}

// withoutStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h. Kernels that do not know the flag send the counters.
const withoutStats = 1 << 3

// deviceOf reads a message: struct ifinfomsg, and attributes.
func deviceOf(m []byte) Device {
	order := binary.NativeEndian
	d := Device{Index: int(order.Uint32(m[4:])), Up: order.Uint32(m[8:])&unix.IFF_UP != 0}
	for kind, value := range attributes(m[unix.SizeofIfInfomsg:]) {
		switch {
		case kind == unix.IFLA_IFNAME:
			d.Name = unix.ByteSliceToString(value)
		case kind == unix.IFLA_MASTER && len(value) == 4:
			d.Master = int(order.Uint32(value))
		case kind == unix.IFLA_LINKINFO:
			d.Hairpin = hairpin(value)
		}
	}
	return d
}

// hairpin reads what a bridge tells of a port, among what is told of the kind of a link.
func hairpin(info []byte) bool {
	bridged := false
	for kind, value := range attributes(info) {
		switch kind {
		case nl.IFLA_INFO_SLAVE_KIND:
			bridged = unix.ByteSliceToString(value) == "bridge"
		case nl.IFLA_INFO_SLAVE_DATA:
			for kind, value := range attributes(value) {
				if kind == nl.IFLA_BRPORT_MODE && len(value) == 1 {
					return bridged && value[0] != 0
				}
			}
		}
	}
	return false
}

// attributes yields the attributes of a message of netlink, without the flags of their types. A broken end is passed over.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if length < unix.SizeofRtAttr || length > len(b) || !yield(kind, b[unix.SizeofRtAttr:length]) {
				return
			}
			b = b[min(len(b), (length+3)&^3):]
		}
	}
}
