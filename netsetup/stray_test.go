package netsetup

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/netsetup/nstest"
)

// stray opens a connection. For each line of standard input it sends a segment 20 MB outside the window of the
// connection, and then asks over the connection as probe does.
func stray(to string) {
	dialer := net.Dialer{Timeout: answerTime}
	conn, err := dialer.Dial("tcp4", to)
	exitOn(err)
	answers := bufio.NewReader(conn)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		exitOn(sendStray(conn.(*net.TCPConn)))
		time.Sleep(50 * time.Millisecond) // the time of an RST
		_ = conn.SetDeadline(time.Now().Add(answerTime))
		_, _ = fmt.Fprintln(conn, "hello")
		answer, err := answers.ReadString('\n')
		if err != nil {
			answer = noAnswer
		}
		fmt.Println(strings.TrimSpace(answer))
	}
}

// sendStray sends a byte with a sequence number far ahead, by a socket of its own.
func sendStray(conn *net.TCPConn) error {
	const tcpRepair, repairOff, tcpRepairQueue, tcpQueueSeq, sendQueue, recvQueue = 19, -1, 20, 21, 2, 1
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var seqs [2]int
	var errs []error
	err = raw.Control(func(fd uintptr) {
		set := func(option, value int) {
			errs = append(errs, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value))
		}
		set(tcpRepair, 1)
		for i, queue := range []int{sendQueue, recvQueue} {
			set(tcpRepairQueue, queue)
			seq, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, tcpQueueSeq)
			seqs[i], errs = seq, append(errs, err)
		}
		set(tcpRepairQueue, 0)
		set(tcpRepair, repairOff)
	})
	if err := errorsOf(append(errs, err)...); err != nil {
		return err
	}
	from, to := conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
	out, err := net.DialIP("ip4:tcp", &net.IPAddr{IP: from.IP}, &net.IPAddr{IP: to.IP})
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = out.Write(segment(from, to, uint32(seqs[0])+20<<20, uint32(seqs[1])))
	return err
}

// segment returns a TCP segment of a single byte, with its checksum.
func segment(from, to *net.TCPAddr, seq, ack uint32) []byte {
	s := make([]byte, 21)
	binary.BigEndian.PutUint16(s[0:], uint16(from.Port))
	binary.BigEndian.PutUint16(s[2:], uint16(to.Port))
	binary.BigEndian.PutUint32(s[4:], seq)
	binary.BigEndian.PutUint32(s[8:], ack)
	s[12], s[13] = 5<<4, 0x18 // PSH, ACK
	binary.BigEndian.PutUint16(s[14:], 512)
	s[20] = 'x'
	pseudo := append(append(append([]byte{}, from.IP.To4()...), to.IP.To4()...), 0, unix.IPPROTO_TCP, 0, byte(len(s)))
	var sum uint32
	for _, part := range [][]byte{pseudo, append(s, 0)} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(s[16:], ^uint16(sum+sum>>16))
	return s
}

// sniff counts the TCP segments that come from an address, and tells the count for each line of standard input.
func sniff(from string) {
	in, err := net.ListenIP("ip4:tcp", nil)
	exitOn(err)
	var count atomic.Int32
	go func() {
		for buf := make([]byte, 100); ; {
			_, source, err := in.ReadFromIP(buf)
			exitOn(err)
			if source.IP.String() == from {
				count.Add(1)
			}
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(count.Load(), "from", from)
	}
}

func TestStraysNFT(t *testing.T)    { onPackets(t, "nft", testStrays) }
func TestStraysLegacy(t *testing.T) { onPackets(t, "legacy", testStrays) }

// strayFaults takes away each rule about packets in state INVALID.
var strayFaults = []fault{
	{table: "mangle", chain: "INPUT", rule: "-j BOXRUN-STRAY"},
	{table: "mangle", chain: "BOXRUN-STRAY", rule: "-j BOXRUN-IN-web"},
	{table: "mangle", chain: "BOXRUN-IN-web", rule: "--dport 8080"},
}

// testStrays sends segments that connection tracking calls INVALID. Without the rules the host answers with an RST, as
// no translation leads such a segment to the box, or lets a segment of the box out under the address of the box.
func testStrays(t *testing.T, l *lab) {
	inward := func(when, want string) {
		t.Helper()
		c := converseWith(t, l.program("stray", "client", "192.0.2.1:8080"))
		if got, _, _ := strings.Cut(c.ask(t), ", mss"); got != want {
			t.Errorf("%s, an established connection after a stray segment: got %q, want %q", when, got, want)
		}
	}
	const unharmed = "192.0.2.2 to port 80"
	inward("with all rules", unharmed)
	for _, f := range strayFaults {
		without := l.breakRule(f, map[string]bool{})
		inward("without "+without, noAnswer)
		l.apply()
		inward("with the rule mended: "+without, unharmed)
	}
	testStraysOut(t, l)
}

// testStraysOut has a box send stray segments, and counts those that the client gets.
func testStraysOut(t *testing.T, l *lab) {
	sniffer := converseWith(t, l.program("sniff", "client", "10.22.0.8"))
	box := converseWith(t, l.program("stray", "web", "192.0.2.2:8000"))
	seen := func(when, want string) {
		t.Helper()
		sniffer.ask(t)
		box.ask(t)
		if want[0] != '0' {
			nstest.WaitFor(t, func() bool { return sniffer.ask(t) == want })
		}
		if got := sniffer.ask(t); got != want {
			t.Errorf("%s, what the client saw of a stray segment of a box: got %q, want %q", when, got, want)
		}
	}
	seen("with all rules", "0 from 10.22.0.8")
	without := l.breakRule(fault{table: "filter", chain: "BOXRUN-REPLY", rule: "--ctstate INVALID"}, map[string]bool{})
	seen("without "+without, "1 from 10.22.0.8")
	l.apply()
	seen("with the rule mended", "1 from 10.22.0.8")
}
