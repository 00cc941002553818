package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/launcher/processtest"
	"boxrun/launcher/testkit"
)

// The boxes of these tests run no systemd. e2e tests boxes with a systemd, and their units.

func box(t *testing.T) Readiness {
	t.Helper()
	return Readiness{
		Init: processtest.Shell(t, "READY; exec sleep 60"), Addr: netip.MustParseAddr("127.0.0.1"), Timeout: 5 * time.Second,
	}
}

// closedPort returns a port of 127.0.0.1 where nobody listens before open.
func closedPort(t *testing.T) (number uint16, open func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(addr.(*unix.SockaddrInet4).Port), func() { unix.Listen(fd, 8) }
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func port(t *testing.T, addr string) uint16 {
	t.Helper()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port()
}

func TestReadyWithoutSystemd(t *testing.T) {
	t.Parallel()
	began := time.Now()
	booted, err := box(t).Wait(t.Context())
	if err != nil || booted.Failed != nil || time.Since(began) > 4*time.Second {
		t.Errorf("got %v, %v after %v, want ready at once", booted, err, time.Since(began))
	}
}

func TestReadyWhenThePortAccepts(t *testing.T) {
	t.Parallel()
	r := box(t)
	number, open := closedPort(t)
	r.TCP = []uint16{number}
	var lines []string
	r.Live = func(line string) {
		lines = append(lines, line)
		open()
	}
	if _, err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, lines[0], fmt.Sprintf("waiting for port %d", number))
	testkit.WantText(t, lines[len(lines)-1], "")
}

// server answers each path with the code it names, and notes what it was asked.
func server(t *testing.T, start func(http.Handler) *httptest.Server) (base *url.URL, asked *[]string) {
	t.Helper()
	asked = new([]string)
	var one sync.Mutex // the checks of one box ask at the same time
	s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		*asked = append(*asked, r.Method+" "+r.Host+r.RequestURI)
		one.Unlock()
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			code = http.StatusOK
		}
		if code/100 == 3 {
			w.Header().Set("Location", "http://192.0.2.1/elsewhere")
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return base, asked
}

func TestReadyWhenTheURLAnswers(t *testing.T) {
	t.Parallel()
	plain, asked := server(t, httptest.NewServer)
	secure, askedSecurely := server(t, httptest.NewTLSServer)
	p, s := plain.Port(), secure.Port()
	r := box(t)
	r.HTTP = []string{
		"http://:" + p + "/302", // a redirect is an answer, and is not followed
		"https://:" + s + "/204",
		"http://box.example.org:" + p + "/x?y=z", // to the box, whatever the name stands for
	}
	// One after the other, so that the order of what was asked is certain.
	for _, u := range r.HTTP {
		one := r
		one.HTTP = []string{u}
		if _, err := one.Wait(t.Context()); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	testkit.WantText(t, strings.Join(*asked, "\n"), "GET 127.0.0.1:"+p+"/302\nGET box.example.org:"+p+"/x?y=z")
	testkit.WantText(t, strings.Join(*askedSecurely, "\n"), "GET 127.0.0.1:"+s+"/204")
}

// Of an init that will never be systemd no unit is waited for.
func TestUnitsOfAnotherInit(t *testing.T) {
	t.Parallel()
	r := box(t)
	r.Init, r.Units, r.Timeout = initNamed(t, "openrc-init", ":"), []string{"nginx.service"}, time.Hour
	_, err := r.Wait(t.Context())
	var late *NotReady
	if !errors.As(err, &late) {
		t.Fatalf("got %v, want %v", err, fault.ErrNotReady)
	}
	testkit.WantText(t, strings.Join(late.Unmet, "\n"), "unit nginx.service: the box runs no systemd, but openrc-init")
}

func TestNotReadyNamesEveryCheck(t *testing.T) {
	t.Parallel()
	plain, _ := server(t, httptest.NewServer)
	closed, _ := closedPort(t)
	p := plain.Port()
	r := box(t)
	r.Timeout = 200 * time.Millisecond
	r.Units = []string{"nginx.service"}
	r.TCP = []uint16{port(t, plain.Host), closed}
	r.HTTP = []string{
		"http://:" + p + "/502", "http://:" + p + "/404", "http://:" + p + "/200",
		fmt.Sprintf("http://:%d/", closed), "https://:" + p + "/", "http://%zz/",
	}
	var lines []string
	r.Live = func(line string) { lines = append(lines, line) }
	_, err := r.Wait(t.Context())
	var late *NotReady
	if !errors.As(err, &late) || !errors.Is(err, fault.ErrNotReady) {
		t.Fatalf("got %v, want %v", err, fault.ErrNotReady)
	}
	testkit.WantText(t, strings.Join(late.Unmet, "\n"), fmt.Sprintf(`unit nginx.service: the box runs no systemd, but sleep
port %d refuses connections
http://127.0.0.1:%s/502 answered 502
http://127.0.0.1:%s/404 answered 404
http://127.0.0.1:%d/ refuses connections
https://127.0.0.1:%s/ does not answer: http: server gave HTTP response to HTTPS client
http://%%zz/ does not answer: invalid URL escape "%%zz"`, closed, p, p, closed, p))
	late.Took = 1234 * time.Millisecond
	testkit.WantText(t, late.Error(), "not ready after 1.2s: "+strings.Join(late.Unmet, "; "))
	testkit.WantText(t, strings.Join(lines, "\n"), "waiting for nginx.service\n")
}

// A port that accepts and says nothing must not hold up the end of the wait.
func TestNotReadyInTime(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0")
	r := box(t)
	r.Timeout = 50 * time.Millisecond
	r.HTTP = []string{"http://:" + strconv.Itoa(int(port(t, l.Addr().String()))) + "/"}
	began := time.Now()
	w := r.newWait()
	w.leastLook = r.Timeout
	_, err := w.run(t.Context())
	if !errors.Is(err, fault.ErrNotReady) || !strings.HasSuffix(err.Error(), "/ does not answer") {
		t.Errorf("got %v, want that it does not answer", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestBoxDiesBeforeItIsReady(t *testing.T) {
	t.Parallel()
	r := box(t)
	closed, _ := closedPort(t)
	r.TCP = []uint16{closed}
	r.Live = func(string) { r.Init.Kill() }
	began := time.Now()
	_, err := r.Wait(t.Context())
	if !errors.Is(err, fault.ErrNotStarted) || time.Since(began) > r.Timeout {
		t.Errorf("got %v after %v, want %v at once", err, time.Since(began), fault.ErrNotStarted)
	}
}

// A dead init has neither a socket nor an executable. This must not pass for a box with another init than systemd.
func TestDeadBoxIsNotReady(t *testing.T) {
	t.Parallel()
	r := box(t)
	if err := errors.Join(r.Init.Kill(), r.Init.Wait(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Wait(t.Context()); !errors.Is(err, fault.ErrNotStarted) {
		t.Errorf("got %+v, %v, want %v", got, err, fault.ErrNotStarted)
	}
}

func TestWaitIsCalledOff(t *testing.T) {
	t.Parallel()
	r := box(t)
	closed, _ := closedPort(t)
	r.TCP = []uint16{closed}
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	r.Live = func(string) { cancel(interrupted) }
	if _, err := r.Wait(ctx); !errors.Is(err, interrupted) {
		t.Errorf("got %v, want %v", err, interrupted)
	}
}

func TestPortsWithoutAnAddress(t *testing.T) {
	t.Parallel()
	r := box(t)
	r.Addr = netip.Addr{}
	r.TCP = []uint16{80}
	_, err := r.Wait(t.Context())
	testkit.WantText(t, fmt.Sprint(err), "the box has no address at which the host could look for its ports")
}

func TestUnmetUnits(t *testing.T) {
	t.Parallel()
	var got []string
	for _, u := range []unitStatus{
		{Name: "a.service", Load: "not-found", Active: "inactive", Sub: "dead"},
		{Name: "b.service", Load: "masked", Active: "inactive", Sub: "dead"},
		{Name: "c.service", Load: "loaded", Active: "failed", Sub: "failed", Result: "exit-code"},
		{Name: "d.mount", Load: "loaded", Active: "failed", Sub: "failed"},
		{Name: "e.service", Load: "loaded", Active: "activating", Sub: "start-pre", Since: 12900 * time.Millisecond},
		{Name: "f.service", Load: "loaded", Active: "inactive", Sub: "dead"},
	} {
		got = append(got, u.unmet())
	}
	testkit.WantText(t, strings.Join(got, "\n"), `unit a.service does not exist in the box
unit b.service is masked
unit c.service failed (exit-code)
unit d.mount failed
unit e.service is activating (start-pre) (12s)
unit f.service is inactive (dead)`)
}

func TestShownURL(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddr("10.22.0.2"), netip.MustParseAddr("2001:db8::2")
	for _, test := range []struct {
		raw  string
		addr netip.Addr
		want string
	}{
		{"http://:80/healthz", v4, "http://10.22.0.2:80/healthz"},
		{"https:///", v4, "https://10.22.0.2/"},
		{"http://:80/", v6, "http://[2001:db8::2]:80/"},
		{"https:///", v6, "https://[2001:db8::2]/"},
		{"http://web:81/x?y", v4, "http://web:81/x?y"},
		{"http://%zz", v4, "http://%zz"},
	} {
		testkit.WantText(t, shownURL(test.raw, test.addr), test.want)
	}
}
