package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"boxrun/e2e/testhost"
	"boxrun/netsetup/dump"
)

// contender starts and stops a box with the systemd and nginx of WebImage, reached at port 8080 of the host.
type contender struct {
	name     string
	most     int // published ports
	up, stop func(ports int) string
}

// contenders are those who run in turn. nspawn publishes nothing by itself: its network and the way to it are made
// once, before.
func contenders() []contender {
	always := func(line string) func(int) string { return func(int) string { return line } }
	return []contender{
		{"boxrun", 1000,
			func(n int) string { return fmt.Sprintf("boxrun up --no-wait bench-%d", n) },
			func(n int) string { return fmt.Sprintf("boxrun down bench-%d", n) }},
		{"Apptainer", 100,
			func(n int) string {
				return "apptainer -q instance start --boot --writable-tmpfs --bind /sys/fs/cgroup --net --network bridge --network-args " +
					portmaps(n) + " " + testhost.WebImage + " raw"
			},
			always("apptainer -q instance stop raw")},
		{"Podman", 1000,
			func(n int) string {
				return "podman run -d --rm --name pod --pids-limit=0 --ulimit host --systemd=always " + podmanPorts(n) +
					" --rootfs " + testhost.WebImage + ":O /sbin/init"
			},
			always("podman stop -t 30 pod")},
		{"nspawn", 1,
			always("systemd-run -q --unit=nspawn -p Type=notify -p KillMode=mixed systemd-nspawn -q -b -D " + testhost.WebImage +
				" --volatile=overlay --register=no --keep-unit -M nspawn --network-namespace-path=/run/netns/nspawn --console=passive"),
			always("systemctl stop nspawn.service")},
	}
}

// nspawnNetwork makes the network that nspawn's box has, and the way to its port.
const nspawnNetwork = `ip netns add nspawn
ip link add ve-nspawn type veth peer name host0 netns nspawn
ip addr add 10.78.0.1/24 dev ve-nspawn; ip link set ve-nspawn up
ip -n nspawn addr add 10.78.0.2/24 dev host0; ip -n nspawn link set host0 up; ip -n nspawn link set lo up
ip -n nspawn route add default via 10.78.0.1
sysctl -qw net.ipv4.ip_forward=1
`

// nspawnWay leads to nspawn's box while it is measured, and back.
func nspawnWay(verb string) string {
	return "iptables -w -t nat -" + verb + " PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.78.0.2:80"
}

// portmaps returns Apptainer's network arguments to publish n ports.
func portmaps(n int) string {
	list := []string{"portmap=8080:80/tcp"}
	for i := range n - 1 {
		list = append(list, fmt.Sprintf("portmap=%d:%d/tcp", 9000+i, 9000+i))
	}
	return strings.Join(list, ",")
}

func podmanPorts(n int) string {
	if n == 1 {
		return "-p 8080:80"
	}
	return fmt.Sprintf("-p 8080:80 -p 9000-%d:9000-%[1]d", 9000+n-2)
}

func profilePorts(n int) string {
	if n == 1 {
		return `"8080:80"`
	}
	return fmt.Sprintf(`"8080:80", "9000-%d:9000-%[1]d"`, 9000+n-2)
}

// cost is what a command took.
type cost struct {
	took, cpu time.Duration
	peak      int64 // KiB, of the largest process
}

// spend runs a line of the host that has to succeed, and returns its cost, of all processes that were waited for.
func spend(ctx context.Context, h *testhost.Host, line string) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var said strings.Builder
	cmd := h.Command(ctx, strings.Fields(line)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("running %q: %w\n%s", line, err, said.String())
	}
	c := cost{took: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = usage.Maxrss
	}
	return c, nil
}

// client is a process of the client host, for connections from there.
type client struct{ cmd *exec.Cmd }

func newClient(ctx context.Context, h *testhost.Host) (client, error) {
	cmd := h.ClientCommand(ctx, "sleep", "infinity")
	return client{cmd}, cmd.Start()
}

func (c client) close() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// asking returns what asks for pages from the client's network.
func (c client) asking() *http.Client {
	return &http.Client{Timeout: 200 * time.Millisecond, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
			defer cancel()
			return dump.DialFrom(ctx, c.cmd.Process.Pid, network, address)
		},
	}}
}

// firstAnswer asks again and again, and returns when the first HTTP 200 came.
func (c client) firstAnswer(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for asking := c.asking(); ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if answers(asking, 8080) {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("no answer at port 8080: %w", ctx.Err())
}

// life is one start and stop of a box.
type life struct {
	up, answer, stop time.Duration
	cost             cost
}

// live starts a box, waits for its first answer, and stops it.
func live(ctx context.Context, h *testhost.Host, from client, c contender, ports int) (l life, err error) {
	type answer struct {
		at  time.Time
		err error
	}
	answered := make(chan answer, 1)
	began := time.Now()
	go func() {
		at, err := from.firstAnswer(ctx)
		answered <- answer{at, err}
	}()
	if l.cost, err = spend(ctx, h, c.up(ports)); err != nil {
		return l, err
	}
	first := <-answered
	if first.err != nil {
		return l, fmt.Errorf("%s: %w", c.name, first.err)
	}
	l.up, l.answer = l.cost.took, first.at.Sub(began)
	time.Sleep(300 * time.Millisecond) // the box's systemd comes to rest
	stop, err := spend(ctx, h, c.stop(ports))
	l.stop = stop.took
	return l, err
}
