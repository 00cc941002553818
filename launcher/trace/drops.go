package trace

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// drop is a packet dropped by the kernel.
type drop struct {
	packet
	reason    string // the kernel's word, without SKB_DROP_REASON_
	where     uint64 // the place in the kernel
	namespace uint32 // number of the network namespace; 0: unknown
	inBox     bool   // the namespace is the box's
}

// dropWatch hears of each drop of a box's packets. The kernel holds everything of a dropWatch by descriptors of this
// process: however the process ends, nothing is left.
type dropWatch struct {
	layout
	ring    *ebpf.Map
	program *ebpf.Program
	link    link.Link
	reader  *ringbuf.Reader
}

// ringSize is the room for unread records, in bytes: 4000 packets. Further packets are lost.
const ringSize = 1 << 18

// watchDrops begins to watch. The error is errNoReasons where the kernel gives no reasons. A kernel may forbid root to
// look (lockdown).
func watchDrops(f filter) (*dropWatch, error) {
	l, err := readLayout()
	if err != nil {
		return nil, err
	}
	// Before 5.11 programs count as locked memory. Where the limit stays, the kernel itself refuses what goes beyond.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	w := &dropWatch{layout: l}
	if err := w.open(f); err != nil {
		w.close()
		return nil, fmt.Errorf("watching the kernel's drops: %w", err)
	}
	return w, nil
}

func (w *dropWatch) open(f filter) (err error) {
	w.ring, err = ebpf.NewMap(&ebpf.MapSpec{Name: "boxrun", Type: ebpf.RingBuf, MaxEntries: ringSize})
	if err != nil {
		return err
	}
	w.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "boxrun_drops", Type: ebpf.RawTracepoint, Instructions: program(w.layout, f, w.ring.FD()), License: "GPL",
	})
	if err != nil {
		return err
	}
	if w.reader, err = ringbuf.NewReader(w.ring); err != nil {
		return err
	}
	w.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "kfree_skb", Program: w.program})
	return err
}

// close ends the watch, and a next still waiting.
func (w *dropWatch) close() {
	if w.link != nil {
		_ = w.link.Close()
	}
	if w.reader != nil {
		_ = w.reader.Close()
	}
	if w.program != nil {
		_ = w.program.Close()
	}
	if w.ring != nil {
		_ = w.ring.Close()
	}
}

// next waits for a drop. The error is ringbuf.ErrClosed after close.
func (w *dropWatch) next() (drop, error) {
	for {
		r, err := w.reader.Read()
		if err != nil {
			return drop{}, err
		}
		if d, ok := w.decode(r.RawSample); ok {
			return d, nil
		}
	}
}

// decode takes a record apart.
func (w *dropWatch) decode(record []byte) (drop, bool) {
	if len(record) < recordSize {
		return drop{}, false
	}
	order := binary.NativeEndian
	p, ok := parsePacket(record[atIP:atTransport], record[atTransport:atTransport+transportHeader])
	p.iif = int(order.Uint32(record[atIIF:]))
	p.tracked = order.Uint32(record[atTracked:]) == 1
	reason := order.Uint32(record[atReason:])
	name := w.reasons[reason]
	if name == "" {
		name = "reason " + strconv.Itoa(int(reason))
	}
	return drop{
		packet: p, reason: name, where: order.Uint64(record[atLocation:]), namespace: order.Uint32(record[atNamespace:]),
	}, ok
}
