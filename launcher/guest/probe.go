package guest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"boxrun/launcher/say"
)

// probe is a port or URL of a box that must answer.
type probe struct {
	what string                          // "port 443", "http://10.22.0.2:80/"
	try  func(ctx context.Context) error // nil if the answer was right
	err  error                           // of the last try; nil after a right answer
}

var errNotTried = errors.New("not tried yet")

// newProbes returns a probe for each port and each URL the box must answer at, ports first.
func (r Readiness) newProbes() []*probe {
	var probes []*probe
	add := func(what string, try func(ctx context.Context) error) {
		probes = append(probes, &probe{what, try, errNotTried})
	}
	for _, port := range r.TCP {
		addr := netip.AddrPortFrom(r.Addr, port)
		add(fmt.Sprintf("port %d", port), func(ctx context.Context) error { return tryTCP(ctx, addr) })
	}
	for _, raw := range r.HTTP {
		target := shownURL(raw, r.Addr)
		add(target, func(ctx context.Context) error { return tryHTTP(ctx, target, r.Addr) })
	}
	return probes
}

// runProbes tries, at once, all probes without a right answer so far. The caller limits the time by ctx.
func runProbes(ctx context.Context, probes []*probe) {
	var all sync.WaitGroup
	for _, p := range probes {
		if p.err != nil {
			all.Go(func() { p.err = p.try(ctx) })
		}
	}
	all.Wait()
}

// errStatus is an HTTP status other than 2xx and 3xx.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("answered %d", int(e)) }

// probeText describes what came instead of the right answer: a status, a refused connection, nothing in time, or
// another error.
func probeText(err error) string {
	var status errStatus
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, unix.ECONNREFUSED):
		return "refuses connections"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
		return "does not answer"
	default:
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL: the message has the URL already
		}
		return "does not answer: " + say.Printable(err.Error())
	}
}

// tryTCP connects to addr and closes the connection. A connection alone is a right answer: nothing is sent.
func tryTCP(ctx context.Context, addr netip.AddrPort) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// shownURL returns the URL with the box's address filled in if the URL names no host. A raw string that is no URL is
// returned unchanged: trying it gives the error.
func shownURL(raw string, addr netip.Addr) string {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() != "" {
		return raw
	}
	u.Host = strings.TrimSuffix(net.JoinHostPort(addr.String(), u.Port()), ":") // without a port only the address
	return u.String()
}

// tryHTTP requests the URL target from addr, whatever host the URL names: the host only goes into the request, for
// servers with several names. tryHTTP follows no redirect, as a redirect may lead out of the box, accepts any
// certificate and uses no proxy. Error: errStatus for an answer other than 2xx and 3xx.
func tryHTTP(ctx context.Context, target string, addr netip.Addr) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "boxrun")
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // boxes rarely have a certificate for their address
			DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, atAddr(addr, host))
			},
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return errStatus(resp.StatusCode)
	}
	return nil
}

// atAddr returns hostport with addr as its host; hostport unchanged if it is not of the form HOST:PORT.
func atAddr(addr netip.Addr, hostport string) string {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	return net.JoinHostPort(addr.String(), port)
}
