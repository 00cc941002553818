package netsetup

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/sockets"

	"golang.org/x/sys/unix"
)

// listen opens a socket as a server would, with socket options set to 1, given as level and option.
func listen(t *testing.T, network, addr string, options ...[2]int) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		for _, o := range options {
			_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), o[0], o[1], 1) })
		}
		return err
	}}
	var err error
	var closer interface{ Close() error }
	if strings.HasPrefix(network, "udp") {
		closer, err = config.ListenPacket(context.Background(), network, addr)
	} else {
		closer, err = config.Listen(context.Background(), network, addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
}

// listenMapped listens on 127.0.0.1 with an IPv6 socket, as Java does.
func listenMapped(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port, Addr: mustAddr("::ffff:127.0.0.1").As16()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
}

func TestListeners(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "lo")
	reuse := [2]int{unix.SOL_SOCKET, unix.SO_REUSEPORT}
	listen(t, "tcp4", "0.0.0.0:81")
	listen(t, "tcp4", "127.0.0.1:82")
	listen(t, "tcp", "[::]:83") // both families
	listen(t, "tcp6", "[::]:84", [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY})
	listen(t, "tcp6", "[::1]:85")
	listen(t, "udp4", "0.0.0.0:86")
	listen(t, "udp", "[::]:87")
	listen(t, "tcp4", "0.0.0.0:88", reuse)
	listen(t, "tcp4", "0.0.0.0:88", reuse)
	listenMapped(t, 89)
	listen(t, "tcp4", "127.0.0.1:90")
	listen(t, "tcp6", "[::]:90", [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY})
	connected, err := net.Dial("udp", "127.0.0.1:86") // a client with a server of its own
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	clientPort := uint16(connected.LocalAddr().(*net.UDPAddr).Port)

	us := sockets.ProcessName(os.Getpid())
	if want := fmt.Sprintf("netsetup.test (pid %d)", os.Getpid()); us != want {
		t.Fatalf("the test's own name is %s, want %s", us, want)
	}
	tcp := func(ip string, first, count uint16) Port { return portOn("tcp", ip, first, count) }
	udp := func(ip string, first, count uint16) Port { return portOn("udp", ip, first, count) }
	for _, test := range []struct {
		name string
		port Port
		want string
	}{
		{"free", tcp("", 80, 1), ""},
		{"wildcard", tcp("", 81, 1), "81/tcp US"},
		{"wildcard, asked for one address", tcp("192.0.2.1", 81, 1), "81/tcp US"},
		{"wildcard, asked for udp", udp("", 81, 1), ""},
		{"localhost", tcp("", 82, 1), "82/tcp US"},
		{"localhost, asked for it", tcp("127.0.0.1", 82, 1), "82/tcp US"},
		{"localhost, asked for another address", tcp("192.0.2.1", 82, 1), ""},
		{"both families", tcp("127.0.0.1", 83, 1), "83/tcp US"},
		{"v6-only", tcp("", 84, 1), ""},
		{"localhost of IPv6", tcp("", 85, 1), ""},
		{"udp", udp("192.0.2.1", 86, 1), "86/udp US"},
		{"udp of both families", udp("", 87, 1), "87/udp US"},
		{"two sockets, one process", tcp("", 88, 1), "88/tcp US"},
		{"localhost in IPv6 clothes", tcp("127.0.0.1", 89, 1), "89/tcp US"},
		{"localhost in IPv6 clothes, asked for another address", tcp("192.0.2.1", 89, 1), ""},
		{"localhost and v6-only, asked for another address", tcp("192.0.2.1", 90, 1), ""},
		{"a udp client that is connected", udp("", clientPort, 1), ""},
		{"range", tcp("", 80, 4), "81/tcp US\n82/tcp US\n83/tcp US"},
		{"last port there is", tcp("", 65535, 1), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			holders, err := Listeners([]Port{test.port})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := holderLines(holders), strings.ReplaceAll(test.want, "US", us); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, h := range holders {
				if h.Port != test.port {
					t.Errorf("got port %+v, want %+v", h.Port, test.port)
				}
			}
		})
	}
}

func tcpPort(host uint16) Port { return Port{Host: host, Container: host, Count: 1, Proto: "tcp"} }

// holderLines writes one holder a line.
func holderLines(holders []Holder) string {
	var lines []string
	for _, h := range holders {
		lines = append(lines, fmt.Sprintf("%d/%s %s", h.Number, h.Proto, h.By))
	}
	return strings.Join(lines, "\n")
}

// portOn gives ports of one address, or of all for "".
func portOn(proto, ip string, first, count uint16) Port {
	p := Port{Host: first, Container: 1, Count: count, Proto: proto}
	if ip != "" {
		p.HostIP = mustAddr(ip)
	}
	return p
}

// A server's workers inherit its socket, and so does what systemd starts for one; a process elsewhere cannot be seen.
func TestListenersNamesTheProcess(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		nstest.CannotRun(t, "no python3 to play a server: %v", err)
	}
	server := `import os, socket, time
s = socket.create_server(("0.0.0.0", 81))
os.fork(); time.sleep(60)`
	pid, _ := nstest.Sleeper(t, "/usr/bin/python3", "-c", server)
	holder := func() string {
		holders, err := Listeners([]Port{tcpPort(81)})
		if err != nil {
			t.Fatal(err)
		}
		return holderLines(holders)
	}
	nstest.WaitFor(t, func() bool { return holder() != "" })
	if got, want := holder(), fmt.Sprintf("81/tcp python3 (pid %d)", pid); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	nstest.Run(t, "mount", "-t", "tmpfs", "tmpfs", "/proc") // as if the processes were not to be seen
	if got, want := holder(), "81/tcp another process"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	nstest.Run(t, "umount", "/proc")
}
