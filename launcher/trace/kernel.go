package trace

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// layout is where the running kernel keeps what the program in program.go looks at, and how the kernel names its
// reasons. Both differ from kernel to kernel; the kernel's own type information (BTF) tells.
type layout struct {
	protocol, head, networkHeader, iif, dev field // of struct sk_buff
	connection                              field // of struct sk_buff: the pointer to its connection; none without tracking
	origin, reply                           field // of struct nf_conn: who asked, and who answers, before translations
	net                                     field // of struct net_device
	inum                                    field // of struct net: the number of a network namespace
	reasons                                 map[uint32]string
}

// field is a field of a structure, in bytes.
type field struct{ offset, size int32 }

// errNoReasons is the error for a kernel dropping packets without giving a reason.
var errNoReasons = errors.New("this kernel tells no reasons of drops (Linux 5.17, EL 9 or newer has them)")

// readLayout reads the layout of the running kernel. The error is errNoReasons for a kernel without reasons, or
// without type information.
func readLayout() (layout, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return layout{}, fmt.Errorf("%w: %w", errNoReasons, err)
	}
	l := layout{}
	if l.reasons, err = readReasons(types); err != nil {
		return layout{}, err
	}
	for _, wanted := range []struct {
		structure, path string
		to              *field
	}{
		{"sk_buff", "protocol", &l.protocol},
		{"sk_buff", "head", &l.head},
		{"sk_buff", "network_header", &l.networkHeader},
		{"sk_buff", "skb_iif", &l.iif},
		{"sk_buff", "dev", &l.dev},
		{"net_device", "nd_net.net", &l.net},
		{"net", "ns.inum", &l.inum},
	} {
		var s *btf.Struct
		if err := types.TypeByName(wanted.structure, &s); err != nil {
			return layout{}, fmt.Errorf("looking up struct %s of the kernel: %w", wanted.structure, err)
		}
		found, ok := fieldOf(s, wanted.path)
		if !ok {
			return layout{}, fmt.Errorf("this kernel has no %s in its struct %s", wanted.path, wanted.structure)
		}
		*wanted.to = found
	}
	l.readConnection(types)
	return l, nil
}

// readConnection reads where a packet's connection is kept. The layout stays without on a kernel without connection
// tracking, or with tracking as a module without type information: the addresses of packets alone tell then.
func (l *layout) readConnection(kernel *btf.Spec) {
	var packet, connection, tuple *btf.Struct
	if kernel.TypeByName("sk_buff", &packet) != nil {
		return
	}
	tracking := kernel
	if tracking.TypeByName("nf_conn", &connection) != nil {
		var err error
		if tracking, err = btf.LoadKernelModuleSpec("nf_conntrack"); err != nil || tracking.TypeByName("nf_conn", &connection) != nil {
			return
		}
	}
	if tracking.TypeByName("nf_conntrack_tuple_hash", &tuple) != nil {
		return
	}
	pointer, tracked := fieldOf(packet, "_nfct")
	tuples, both := fieldOf(connection, "tuplehash")
	source, addressed := fieldOf(tuple, "tuple.src.u3.all")
	if tracked && both && addressed {
		l.connection = pointer
		l.origin = field{tuples.offset + source.offset, source.size}
		l.reply = field{l.origin.offset + tuples.size/2, source.size}
	}
}

// readReasons returns the kernel's reasons by number. Reasons of single drivers and protocols, above 65535, are not
// among them.
func readReasons(types *btf.Spec) (map[uint32]string, error) {
	var point *btf.Typedef
	var enum *btf.Enum
	if types.TypeByName("btf_trace_kfree_skb", &point) != nil || types.TypeByName("skb_drop_reason", &enum) != nil {
		return nil, errNoReasons
	}
	pointer, _ := btf.As[*btf.Pointer](point)
	if pointer == nil {
		return nil, errNoReasons
	}
	// The parameters are a word of the tracepoint's own, the packet, the place, and from 5.17 on the reason.
	if proto, ok := pointer.Target.(*btf.FuncProto); !ok || len(proto.Params) < 4 {
		return nil, errNoReasons
	}
	reasons := map[uint32]string{}
	for _, v := range enum.Values {
		reasons[uint32(v.Value)] = strings.TrimPrefix(v.Name, "SKB_DROP_REASON_")
	}
	return reasons, nil
}

// fieldOf finds a field by its path, "ns.inum". Structures and unions without a name count as part of what holds them.
func fieldOf(t btf.Type, path string) (field, bool) {
	name, rest, nested := strings.Cut(path, ".")
	for _, m := range membersOf(t) {
		found, ok := field{}, m.Name == name
		switch {
		case ok && nested:
			found, ok = fieldOf(m.Type, rest)
		case ok:
			size, err := btf.Sizeof(m.Type)
			found, ok = field{size: int32(size)}, err == nil
		case m.Name == "":
			found, ok = fieldOf(m.Type, path)
		}
		if ok {
			found.offset += int32(m.Offset.Bytes())
			return found, true
		}
	}
	return field{}, false
}

// membersOf returns the members of a structure or union, behind a typedef too; none of anything else.
func membersOf(t btf.Type) []btf.Member {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		return t.Members
	case *btf.Union:
		return t.Members
	}
	return nil
}
