package lan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// How often Asked asks, how long apart, and how long Asked waits in all. RFC 5227 has whole seconds, for hosts that ask
// all of the LAN at once after a power cut.
const (
	probes  = 3
	apart   = 150 * time.Millisecond
	patient = 500 * time.Millisecond
)

// Asked asks the LAN of some devices who has an address, by ARP probes of RFC 5227, or by solicitations of RFC 4862, from which
// nobody learns an address of the asker. Asked returns the MAC of one who has answered; nil: nobody has in half a second.
func Asked(addr netip.Addr, devices ...string) (net.HardwareAddr, error) {
	answers := make([]net.HardwareAddr, len(devices))
	errs := make([]error, len(devices))
	var all sync.WaitGroup
	for i, device := range devices {
		all.Go(func() { answers[i], errs[i] = ask(device, addr) })
	}
	all.Wait()
	for i, mac := range answers {
		if mac != nil {
			return mac, nil
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("asking the LAN of %s for %s: %w", devices[i], addr, errs[i])
		}
	}
	return nil, errors.Join(errs...)
}

func ask(device string, addr netip.Addr) (net.HardwareAddr, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	q, err := question(ifi.HardwareAddr, addr)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(q.etherType), nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for began, i := time.Now(), 1; i <= probes; i++ {
		if _, err := conn.WriteTo(q.frame, &packet.Addr{HardwareAddr: q.to}); err != nil {
			return nil, err
		}
		until := began.Add(time.Duration(i) * apart)
		if i == probes {
			until = began.Add(patient)
		}
		if mac, err := answer(conn, q.answered, until); mac != nil || err != nil {
			return mac, err
		}
	}
	return nil, nil
}

// inquiry is a frame that asks for an address.
type inquiry struct {
	etherType ethernet.EtherType
	to        net.HardwareAddr
	frame     []byte
	answered  func(frame []byte) net.HardwareAddr // the MAC of who says to have the address; nil for another frame
}

// question returns the frame that asks for an address, from a MAC without an address.
func question(mac net.HardwareAddr, addr netip.Addr) (inquiry, error) {
	if addr.Is6() {
		return solicitation(mac, addr)
	}
	p, err := arp.NewPacket(arp.OperationRequest, mac, netip.IPv4Unspecified(), ethernet.Broadcast, addr)
	if err != nil {
		return inquiry{}, err
	}
	p.TargetHardwareAddr = make(net.HardwareAddr, len(mac)) // as RFC 5227 has it
	payload, err := p.MarshalBinary()
	if err != nil {
		return inquiry{}, err
	}
	f := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
	frame, err := f.MarshalBinary()
	return inquiry{ethernet.EtherTypeARP, ethernet.Broadcast, frame, func(frame []byte) net.HardwareAddr {
		if p, ok := parsed(frame); ok && p.SenderIP == addr {
			return p.SenderHardwareAddr
		}
		return nil
	}}, err
}

// answer returns the first MAC that answered finds in a frame, nil if none comes until then. Who says that the address is its
// own has it, whether asked or not.
func answer(conn net.PacketConn, answered func([]byte) net.HardwareAddr, until time.Time) (net.HardwareAddr, error) {
	if err := conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	for buf := make([]byte, 1514); ; {
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if mac := answered(buf[:n]); mac != nil {
			return mac, nil
		}
	}
}

// parsed returns the ARP packet in a frame; false for a frame that holds none.
func parsed(frame []byte) (arp.Packet, bool) {
	var f ethernet.Frame
	var p arp.Packet
	ok := f.UnmarshalBinary(frame) == nil && p.UnmarshalBinary(f.Payload) == nil
	return p, ok
}
