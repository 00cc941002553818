package netsetup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/offload"

	"golang.org/x/sys/unix"
)

// programVariable makes the test binary one of the programs that the tests run in other namespaces.
const programVariable = "BOXRUN_TEST_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(programVariable) {
	case "serve":
		serve(os.Args[1:])
	case "probe":
		probe(os.Args[1], os.Args[2], os.Args[3], os.Args[4])
	case "stray":
		stray(os.Args[1])
	case "hear":
		hear(os.Args[1])
	case "advertise":
		advertise(os.Args[1])
	case "sniff":
		sniff(os.Args[1])
	default:
		os.Exit(nstest.Main(m))
	}
}

// serve answers each line or datagram with where it came from, where it arrived, and the MSS the peer asked for. Its
// arguments are like tcp/127.0.0.1:80. It says so when it listens, and ends with its standard input.
func serve(listen []string) {
	for _, l := range listen {
		proto, addr, _ := strings.Cut(l, "/")
		if proto == "sctp" {
			answerSCTP(addr)
			continue
		}
		if proto == "udp" {
			conn, err := net.ListenPacket("udp", addr)
			exitOn(err)
			go answerUDP(conn)
			continue
		}
		listener, err := net.Listen("tcp", addr)
		exitOn(err)
		go func() {
			for {
				conn, err := listener.Accept()
				exitOn(err)
				go answerTCP(conn.(*net.TCPConn))
			}
		}()
	}
	fmt.Println("listening")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func answerUDP(conn net.PacketConn) {
	buf := make([]byte, 100)
	for {
		_, from, err := conn.ReadFrom(buf)
		exitOn(err)
		_, _ = conn.WriteTo([]byte(describe(from, conn.LocalAddr(), 0)), from)
	}
}

func answerTCP(conn *net.TCPConn) {
	defer conn.Close()
	raw, err := conn.SyscallConn()
	exitOn(err)
	mss := 0
	exitOn(raw.Control(func(fd uintptr) { mss, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }))
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprintln(conn, describe(conn.RemoteAddr(), conn.LocalAddr(), mss))
	}
}

// describe rounds the MSS down, as timestamps and the like take some of it.
func describe(from, to net.Addr, mss int) string {
	f, t := netip.MustParseAddrPort(from.String()), netip.MustParseAddrPort(to.String())
	return fmt.Sprintf("%v to port %d, mss %d", f.Addr().Unmap(), t.Port(), mss/100*100)
}

// answerTime is for what has to answer, however busy the machine is, and silence for what has not.
const (
	answerTime = time.Minute
	silence    = 200 * time.Millisecond
)

// probe asks a server and prints its answer, or "no answer", again for each line of standard input, which says how long to
// wait.
func probe(proto, from, to, timeout string) {
	limit, err := time.ParseDuration(timeout)
	exitOn(err)
	if proto == "sctp" {
		probeSCTP(to, limit)
		return
	}
	dialer := net.Dialer{Timeout: limit}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		if proto == "udp" {
			dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
	}
	conn, err := dialer.Dial(proto, to)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		limit, err := time.ParseDuration(lines.Text())
		exitOn(err)
		_ = conn.SetDeadline(time.Now().Add(limit))
		_, _ = fmt.Fprintln(conn, "hello")
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if proto == "udp" && errors.Is(err, unix.ECONNREFUSED) {
			fmt.Println(portClosed)
			continue
		}
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		fmt.Println(strings.TrimSpace(string(buf[:n])))
	}
}

func exitOn(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lab is a host with two boxes on a bridge, web and db, and a client on its external network, all network namespaces.
//
//	client 192.0.2.2 and .3 --- ext0 192.0.2.1 and .9, host, sbr0 10.22.0.1 --- web 10.22.0.8
//	                                                                       `--- db  10.22.0.9
//
// The client has routes to the boxes' subnet and, like web, one for 127.0.0.1, both by way of the host.
type lab struct {
	t     *testing.T
	k     *Kernel
	plans []*Plan
}

const labScript = `
	sysctl -qw net.ipv6.conf.default.disable_ipv6=1
	for n in client web db; do ip netns add $n; ip -n $n link set lo up; done
	ip link add ext0 type veth peer name eth0 netns client
	ip addr add 192.0.2.1/24 dev ext0; ip addr add 192.0.2.9/24 dev ext0
	ip link set ext0 mtu 1300 up
	ip -n client addr add 192.0.2.2/24 dev eth0; ip -n client addr add 192.0.2.3/24 dev eth0
	ip -n client addr add 169.254.169.254/32 dev eth0; ip -n client link set eth0 up
	ip route add default via 192.0.2.2
	ip -n client route add 10.22.0.0/16 via 192.0.2.1
	sysctl -qw net.ipv4.ip_forward=0`

// box makes a box's veth, which hangs on the bridge, and its routes.
const boxScript = `
	ip link add %[1]s type veth peer name eth0 netns %[2]s
	ip link set %[1]s master sbr0 up
	ip -n %[2]s addr add %[3]s/16 dev eth0
	ip -n %[2]s link set eth0 up
	ip -n %[2]s route add default via 10.22.0.1`

// martian makes a namespace send what is for 127.0.0.1 to its gateway.
const martianScript = `
	nsenter --net=/run/netns/%[1]s sysctl -qw net.ipv4.conf.eth0.route_localnet=1
	ip -n %[1]s -4 addr flush dev lo
	ip -n %[1]s route add 127.0.0.1 via %[2]s dev eth0 src %[3]s`

func webBox() Box {
	one := func(host, container uint16, proto string) Port {
		return Port{Host: host, Container: container, Count: 1, Proto: proto}
	}
	mysql, https := one(8306, 3306, "tcp"), one(8443, 443, "tcp")
	mysql.HostIP, https.HostIP = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.9")
	return Box{
		Name: "web", Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16"), Addr: netip.MustParseAddr("10.22.0.8"), Veth: "veth8", Offload: offload.Off,
		Ports: []Port{
			one(8080, 80, "tcp"), one(5353, 53, "udp"), mysql, https,
			{Host: 9000, Container: 9000, Count: 4, Proto: "tcp"},
			{Host: 7000, Container: 6000, Count: 4, Proto: "udp"},
			one(3868, 3868, "sctp"), {Host: 2905, Container: 12905, Count: 3, Proto: "sctp"},
		},
	}
}

func dbBox() Box {
	return Box{
		Name: "db", Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16"), Addr: netip.MustParseAddr("10.22.0.9"), Veth: "veth9", Offload: offload.Off,
		Ports:     []Port{{Host: 8081, Container: 80, Count: 1, Proto: "tcp"}},
		AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")},
		Metadata:  true,
	}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	nstest.Shell(t, labScript)
	k, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	l := &lab{t: t, k: k}
	n := sbr0()
	n.Dir = t.TempDir()
	l.add(Host())
	l.add(Bridge(n))
	nstest.Shell(t, fmt.Sprintf(boxScript, "veth8", "web", "10.22.0.8"))
	nstest.Shell(t, fmt.Sprintf(boxScript, "veth9", "db", "10.22.0.9"))
	l.add(Ports(webBox()))
	l.add(Ports(dbBox()))
	nstest.Shell(t, fmt.Sprintf(martianScript, "client", "192.0.2.1", "192.0.2.2"))
	nstest.Shell(t, fmt.Sprintf(martianScript, "web", "10.22.0.1", "10.22.0.8"))
	l.serve("", "tcp/127.0.0.1:9999")
	l.serve("client", "tcp/192.0.2.2:8000", "tcp/192.0.2.2:8080", "tcp/169.254.169.254:80", "tcp/169.254.169.254:53")
	l.serve("db", "tcp/10.22.0.9:80")
	l.serve("web", "tcp/10.22.0.8:80", "udp/10.22.0.8:53", "tcp/10.22.0.8:3306", "tcp/10.22.0.8:443", "tcp/10.22.0.8:3307",
		"tcp/10.22.0.8:9002", "udp/10.22.0.8:6002", "sctp/10.22.0.8:3868", "sctp/10.22.0.8:12906")
	return l
}

func (l *lab) add(p Plan) {
	l.t.Helper()
	if err := errorsOf(p.Record(l.k), p.Apply(l.k)); err != nil {
		l.t.Fatal(err)
	}
	l.plans = append(l.plans, &p)
}

// apply repairs everything.
func (l *lab) apply() {
	l.t.Helper()
	l.k.Reread()
	for _, p := range l.plans {
		if err := p.Apply(l.k); err != nil {
			l.t.Fatal(err)
		}
	}
}

// program is this binary as another program in a namespace; the host's is "".
func (l *lab) program(name, namespace string, args ...string) *exec.Cmd {
	argv := append([]string{os.Args[0]}, args...)
	if namespace != "" {
		argv = append([]string{"nsenter", "--net=/run/netns/" + namespace}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), programVariable+"="+name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// serve starts a server, and waits until it listens.
func (l *lab) serve(namespace string, listen ...string) {
	l.t.Helper()
	converseWith(l.t, l.program("serve", namespace, listen...)).read(l.t)
}

// conversation is with a program that answers lines.
type conversation struct {
	in  io.Writer
	out *bufio.Reader
}

func converseWith(t *testing.T, cmd *exec.Cmd) *conversation {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &conversation{in, bufio.NewReader(out)}
}

func (c *conversation) read(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the program ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// ask asks once more over the same connection, where an answer has to come.
func (c *conversation) ask(t *testing.T) string {
	t.Helper()
	return c.askWithin(t, answerTime)
}

// askWithin is ask, with the time to wait.
func (c *conversation) askWithin(t *testing.T, limit time.Duration) string {
	t.Helper()
	if _, err := fmt.Fprintln(c.in, limit); err != nil {
		t.Fatal(err)
	}
	return c.read(t)
}

// probe is a question of one namespace to an address. From is the source address, where it has two.
type labProbe struct{ namespace, proto, from, to string }

func (p labProbe) String() string {
	where := p.namespace
	if where == "" {
		where = "host"
	}
	if p.from != "" {
		where += " as " + p.from
	}
	return where + " to " + p.proto + "/" + p.to
}

const (
	noAnswer   = "no answer"
	portClosed = "port unreachable" // an ICMP message that answers a datagram; where it is not asked for, no answer
)

// expect probes. What should answer is given time; what should not is not waited for long.
func (l *lab) expect(p labProbe, want, when string) {
	l.t.Helper()
	timeout := answerTime
	if want == noAnswer {
		timeout = silence
	}
	cmd := l.program("probe", p.namespace, p.proto, p.from, p.to, timeout.String())
	cmd.Stdin = strings.NewReader(timeout.String() + "\n")
	out, err := cmd.Output()
	got := strings.TrimSpace(string(out))
	if p.proto == "tcp" && !strings.Contains(want, ", mss") {
		got, _, _ = strings.Cut(got, ", mss")
	}
	got = strings.TrimSuffix(got, ", mss 0")
	if got == portClosed && want == noAnswer {
		got = noAnswer
	}
	if got != want || err != nil {
		l.t.Errorf("%s, %v:\ngot  %s (%v)\nwant %s", when, p, got, err, want)
	}
}

// policy sets the policy of FORWARD.
func (l *lab) policy(policy string) { nstest.Shell(l.t, "iptables -P FORWARD "+policy) }

// bridgeNetfilter reports whether bridged frames pass through iptables.
func (l *lab) bridgeNetfilter(on bool) bool {
	value := strconv.Itoa(map[bool]int{true: 1}[on])
	write := func(key string) error { return os.WriteFile("/proc/sys/net/bridge/"+key, []byte(value), 0) }
	return errors.Join(write("bridge-nf-call-iptables"), write("bridge-nf-call-ip6tables")) == nil
}
