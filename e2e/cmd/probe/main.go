// Command probe is both ends of the connections that tests make. The server answers with its own address and the
// caller's; the other verbs connect to a server. A single static binary runs on the machine, on the host, on the client
// and in a box. Begin reading at probe.
//
//	probe serve NAME tcp/ADDR udp/ADDR ...    answers "NAME on LOCAL to REMOTE: TEXT"; ADDR may end in a range :LOW-HIGH
//	probe tcp ADDR | probe udp ADDR           says hello to ADDR and prints the answer
//	probe get URL                             prints status and body
//	probe rate ADDR TIME                      makes tcp connections to ADDR for TIME and prints the number per second
//	probe watch URL EVERY                     asks every so often, until killed; a line for each answer: when it was
//	                                          asked for, in Unix milliseconds, and the body, or "-" for no answer in a second
//	probe checksums DEVICE PORT               captures what comes in for PORT until stdin ends, and tells of checksums
//	probe sink ADDR | probe send ADDR N       takes what comes by tcp and udp; sends N datagrams, and as much by tcp
//	probe flow ADDR TIME                      sends by tcp for TIME and prints Gbit a second
//	probe hop DEVICE DEVICE                   hands frames from each device to the other
//	probe switch ADDR                         asked for http://ADDR/WORDS prints WORDS, and answers with the next line of stdin
//
// A question takes two seconds at most. Without an answer probe exits 1, with the reason on stderr.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const patience = 2 * time.Second

func main() {
	if err := probe(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func probe(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: probe serve NAME PROTO/ADDR... | tcp ADDR | udp ADDR | get URL | rate ADDR TIME | watch URL EVERY | switch ADDR | checksums DEVICE PORT | sink ADDR | send ADDR N | flow ADDR TIME | hop DEVICE DEVICE")
	}
	switch args[0] {
	case "serve":
		return serve(args[1], args[2:])
	case "tcp", "udp":
		return ask(args[0], args[1])
	case "get":
		return get(args[1])
	case "rate":
		return rate(args[1], args[2:])
	case "watch":
		return watch(args[1], args[2:])
	case "checksums":
		return checksums(args[1], args[2:])
	case "sink":
		return sink(args[1])
	case "send":
		return send(args[1], args[2:])
	case "flow":
		return flow(args[1], args[2:])
	case "hop":
		return hop(args[1], args[2:])
	case "switch":
		return relay(args[1])
	}
	return fmt.Errorf("no such verb %q", args[0])
}

// ask sends a line and prints the line that comes back.
func ask(network, address string) error {
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Print(answer)
	return nil
}

// callers is the number of parallel callers, enough to keep two processors busy.
const callers = 4

// rate makes connections to address from all callers at once, and prints the number of connections a second.
func rate(address string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: probe rate ADDR TIME")
	}
	during, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	began := time.Now()
	var made atomic.Int64
	failed := make(chan error, callers)
	for range callers {
		go func() { failed <- call(address, began.Add(during), &made) }()
	}
	for range callers {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%.1f\n", float64(made.Load())/time.Since(began).Seconds())
	return nil
}

// call connects until end, and counts the connections in made. Each connection is reset at once, so that none lingers.
func call(address string, end time.Time, made *atomic.Int64) error {
	for ; time.Now().Before(end); made.Add(1) {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil { //nolint:forcetypeassert // tcp was dialled
			return err
		}
		conn.Close()
	}
	return nil
}

func get(url string) error {
	client := http.Client{Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// serve answers on every address of specs until killed. When all addresses are open, serve prints "ready".
func serve(name string, specs []string) error {
	failed := make(chan error)
	for _, spec := range specs {
		addresses, err := expand(spec)
		if err != nil {
			return err
		}
		network, _, _ := strings.Cut(spec, "/")
		for _, address := range addresses {
			loop, err := open(name, network, address)
			if err != nil {
				return err
			}
			go func() { failed <- loop() }()
		}
	}
	fmt.Println("ready")
	return <-failed
}

// expand returns the addresses of a spec such as "tcp/:9000-9010". A spec without a range has a single address.
func expand(spec string) ([]string, error) {
	_, address, _ := strings.Cut(spec, "/")
	host, ports, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	from, to, found := strings.Cut(ports, "-")
	if !found {
		return []string{address}, nil
	}
	low, noLow := strconv.Atoi(from)
	high, noHigh := strconv.Atoi(to)
	if err := errors.Join(noLow, noHigh); err != nil {
		return nil, err
	}
	var addresses []string
	for port := low; port <= high; port++ {
		addresses = append(addresses, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return addresses, nil
}

// open listens on address and returns the loop that answers there.
func open(name, network, address string) (func() error, error) {
	if network == "udp" {
		conn, err := net.ListenPacket(network, address)
		return func() error { return answerPackets(name, conn) }, err
	}
	listener, err := net.Listen(network, address)
	return func() error { return answerConnections(name, listener) }, err
}

func answerConnections(name string, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				fmt.Fprint(conn, answer(name, conn.LocalAddr(), conn.RemoteAddr(), lines.Text()))
			}
		}()
	}
}

func answerPackets(name string, conn net.PacketConn) error {
	packet := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		text := strings.TrimSpace(string(packet[:n]))
		if _, err := conn.WriteTo([]byte(answer(name, conn.LocalAddr(), from, text)), from); err != nil {
			return err
		}
	}
}

func answer(name string, local, remote net.Addr, text string) string {
	return fmt.Sprintf("%s on %s to %s: %s\n", name, local, remote, text)
}

// watch asks for url again and again, without waiting for answers that are still to come.
func watch(url string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: probe watch URL EVERY")
	}
	every, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range time.Tick(every) {
		go func() {
			asked := time.Now().UnixMilli()
			fmt.Printf("%d %s\n", asked, bodyOf(client, url))
		}()
	}
	return nil
}

// bodyOf returns the first line of the page at url, or "-".
func bodyOf(client http.Client, url string) string {
	resp, err := client.Get(url)
	if err != nil {
		return "-"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "-"
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return line
}

// relay hands the paths it is asked for to whoever reads its stdout, and answers with what comes back.
func relay(address string) error {
	answers := bufio.NewReader(os.Stdin)
	var one sync.Mutex
	server := http.Server{Addr: address, ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		fmt.Println(strings.TrimPrefix(r.URL.Path, "/"))
		answer, err := answers.ReadString('\n')
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, answer)
	})}
	return server.ListenAndServe()
}
