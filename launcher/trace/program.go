package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"boxrun/profiles/port"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// filter is what the packets of a box have: an address of the box, or a published port of the box before the translation, or,
// with connections, a connection that the box asked for or answers. The connection tells of packets from the box whose
// source is the host's already.
type filter struct {
	addrs       []netip.Addr // of IPv4, and of IPv6 if the box has IPv6
	ports       []port.Port
	connections bool
}

// Where each part of a record begins, in bytes. A record is what the program hands on of a dropped packet.
const (
	atLocation  = 0  // u64: the place in the kernel
	atReason    = 8  // u32
	atIIF       = 12 // u32: index of the device by which the packet came; 0: sent by the host
	atNamespace = 16 // u32: number of the network namespace; 0: unknown
	atTracked   = 20 // u32: 1 for a packet that only its connection tells to be the box's
	atIP        = 24 // the header of IPv4 or IPv6, without options; of IPv4 with what follows
	atTransport = 64 // the first bytes of the tcp, udp or icmp header
	recordSize  = 80

	ipHeader        = atTransport - atIP
	transportHeader = 16
)

// The program's stack, from the frame pointer down: the record, and below it room for a pointer, for a number and for an
// address.
const (
	record  = -recordSize
	pointer = record - 8
	number  = pointer - 8
	address = number - 16
)

// program makes the program for a look at each dropped packet, in instructions of the kernel's machine. The program
// hands records of packets of f on to the ring buffer with the given descriptor. The arguments of the program are the
// arguments of the tracepoint: the packet, the place, the reason.
//
// The program is made here and not compiled from C. So no build needs a compiler for C, and offsets of the running
// kernel are plain numbers in the program.
func program(l layout, f filter, ring int) asm.Instructions {
	context, packet, at, version := asm.R6, asm.R7, asm.R8, asm.R9
	var p asm.Instructions
	p = append(p, asm.Mov.Reg(context, asm.R1), asm.Mov.Imm(asm.R1, 0))
	for slot := int16(-8); slot >= address; slot -= 8 {
		p = append(p, asm.StoreMem(asm.RFP, slot, asm.R1, asm.DWord))
	}
	p = append(p,
		asm.LoadMem(packet, context, 0, asm.DWord),
		asm.LoadMem(asm.R1, context, 8, asm.DWord), asm.StoreMem(asm.RFP, record+atLocation, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, context, 16, asm.DWord), asm.StoreMem(asm.RFP, record+atReason, asm.R1, asm.Word),
	)
	p = append(p, read(number, packet, l.protocol)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.RFP, number, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JEq.Imm(asm.R1, unix.ETH_P_IP, "ip"), asm.JNE.Imm(asm.R1, unix.ETH_P_IPV6, "end"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("ip"), // does nothing, but can be jumped to
	)
	p = append(p, read(pointer, packet, l.head)...)
	p = append(p, read(number, packet, l.networkHeader)...)
	p = append(p,
		asm.LoadMem(at, asm.RFP, pointer, asm.DWord), asm.LoadMem(asm.R1, asm.RFP, number, asm.Half), asm.Add.Reg(at, asm.R1))
	p = append(p, read(record+atIP, at, field{size: ipHeader})...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.RFP, record+atIP, asm.Byte), asm.Mov.Reg(version, asm.R1),
		asm.RSh.Imm(version, 4), asm.JEq.Imm(version, 6, "version 6"), asm.JNE.Imm(version, 4, "end"),
		asm.And.Imm(asm.R1, 15), asm.LSh.Imm(asm.R1, 2), asm.Ja.Label("transport"), // the header's length in words
		asm.Mov.Imm(asm.R1, ipHeader).WithSymbol("version 6"),
		asm.Add.Reg(at, asm.R1).WithSymbol("transport"),
	)
	p = append(p, read(record+atTransport, at, field{size: transportHeader})...)
	p = append(p, f.match()...)
	p = append(p, f.matchConnection(l)...)
	p = append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("hit"))
	p = append(p, read(record+atIIF, packet, l.iif)...)
	p = append(p, read(pointer, packet, l.dev)...)
	p = append(p, asm.LoadMem(at, asm.RFP, pointer, asm.DWord))
	p = append(p, read(pointer, at, l.net)...)
	p = append(p, asm.LoadMem(at, asm.RFP, pointer, asm.DWord))
	p = append(p, read(record+atNamespace, at, l.inum)...)
	return append(p,
		asm.LoadMapPtr(asm.R1, ring), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, record),
		asm.Mov.Imm(asm.R3, recordSize), asm.Mov.Imm(asm.R4, 0), asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return(),
	)
}

// read copies a field of the kernel's memory at base to a slot of the stack. What cannot be read becomes zero.
func read(slot int16, base asm.Register, f field) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, int32(slot)),
		asm.Mov.Imm(asm.R2, f.size),
		asm.Mov.Reg(asm.R3, base), asm.Add.Imm(asm.R3, f.offset),
		asm.FnProbeReadKernel.Call(),
	}
}

// matchConnection goes on at the label "hit" for packets of a connection of the box's, and ends the program for all others.
// The low bits of the pointer to a connection are the packet's state (NFCT_PTRMASK in linux/skbuff.h).
func (f filter) matchConnection(l layout) asm.Instructions {
	if !f.connections || l.connection.size == 0 {
		return asm.Instructions{asm.Ja.Label("end")}
	}
	p := read(pointer, asm.R7, l.connection)
	p = append(p, asm.LoadMem(asm.R8, asm.RFP, pointer, asm.DWord), asm.And.Imm(asm.R8, ^7), asm.JEq.Imm(asm.R8, 0, "end"),
		asm.Mov.Imm(asm.R1, 1), asm.StoreMem(asm.RFP, record+atTracked, asm.R1, asm.Word))
	for i, source := range []field{l.origin, l.reply} {
		p = append(p, read(address, asm.R8, source)...)
		for _, addr := range f.addrs {
			p = append(p, hasAddress(addr, address, fmt.Sprintf("connection %d, not %s", i, addr))...)
		}
	}
	return append(p, asm.Ja.Label("end"))
}

// hasAddress goes on at the label "hit" if the packet is of the version of addr, and addr is in the slot of the stack.
// other is a label of no other use.
func hasAddress(addr netip.Addr, slot int16, other string) asm.Instructions {
	version := int32(4)
	if addr.Is6() {
		version = 6
	}
	p := asm.Instructions{asm.JNE.Imm(asm.R9, version, other)}
	for words := addr.AsSlice(); len(words) > 0; words, slot = words[4:], slot+4 {
		p = append(p, asm.LoadMem(asm.R1, asm.RFP, slot, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Word),
			asm.JNE.Imm32(asm.R1, int32(binary.BigEndian.Uint32(words)), other))
	}
	return append(p, asm.Ja.Label("hit"), asm.Mov.Imm(asm.R0, 0).WithSymbol(other))
}

// match goes on at the label "hit" for packets with an address or port of the filter.
func (f filter) match() asm.Instructions {
	var p asm.Instructions
	for _, addr := range f.addrs {
		h := headerFor(addr)
		for _, offset := range []uint32{h.src, h.dst} {
			p = append(p, hasAddress(addr, record+atIP+int16(offset), fmt.Sprintf("%d, not %s", offset, addr))...)
		}
	}
	p = append(p,
		asm.LoadMem(asm.R3, asm.RFP, protoSlot(netip.IPv4Unspecified()), asm.Byte), asm.JEq.Imm(asm.R9, 4, "ports"),
		asm.LoadMem(asm.R3, asm.RFP, protoSlot(netip.IPv6Unspecified()), asm.Byte),
		asm.Mov.Reg(asm.R3, asm.R3).WithSymbol("ports"),
		asm.LoadMem(asm.R1, asm.RFP, record+atTransport, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.LoadMem(asm.R2, asm.RFP, record+atTransport+2, asm.Half), asm.HostTo(asm.BE, asm.R2, asm.Half))
	for i, port := range f.ports {
		next := fmt.Sprintf("port %d", i+1)
		first, last := int32(port.Host), int32(port.Host)+int32(port.Count)-1
		p = append(p, asm.JNE.Imm(asm.R3, protoNumber(port.Proto), next))
		for _, end := range []asm.Register{asm.R1, asm.R2} {
			other := fmt.Sprintf("%s, not by %v", next, end)
			p = append(p, asm.JLT.Imm(end, first, other), asm.JLE.Imm(end, last, "hit"),
				asm.Mov.Reg(end, end).WithSymbol(other)) // does nothing, but can be jumped to
		}
		p = append(p, asm.Mov.Reg(asm.R3, asm.R3).WithSymbol(next))
	}
	return p
}

// protoSlot returns where the stack has the protocol of a packet with addresses like addr.
func protoSlot(addr netip.Addr) int16 { return record + atIP + int16(headerFor(addr).proto) }

func protoNumber(proto string) int32 {
	switch proto {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}
