package hello

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
)

// Path is the path of boxrun in the built-in box hello: boxrun itself is the init of this box.
const Path = "/sbin/init"

// Init is process 1 of a hello box. It reaps ended children, serves the page on port 80 and returns 0 when told to
// halt. If the page cannot be served (in host mode the port may be taken), log says so and the box runs on.
func Init(log io.Writer) int {
	halt := make(chan os.Signal, 1)
	signal.Notify(halt, process.HaltSignal, unix.SIGTERM, unix.SIGINT)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go serveHello(log)
	for {
		select {
		case <-children:
			reap()
		case s := <-halt:
			fmt.Fprintf(log, "hello: halting on %v\n", s)
			return 0
		}
	}
}

// reap collects every ended child. A single SIGCHLD may stand for several children.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// serveHello serves the page on port 80 until serving fails. A failure is a line in log.
func serveHello(log io.Writer) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":80")
	if err != nil {
		fmt.Fprintf(log, "hello: %v\n", err)
		return
	}
	fmt.Fprintf(log, "hello: serving on %v\n", l.Addr())
	server := &http.Server{Handler: helloHandler(log, time.Now()), ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(log, "hello: %v\n", server.Serve(l))
}

// helloHandler answers every path with the page, as HTML or as text, and logs who asked.
func helloHandler(log io.Writer, started time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := pageOf(r, time.Since(started))
		fmt.Fprintf(log, "hello: %s %s from %s\n", r.Method, r.URL.Path, p.From)
		w.Header().Set("Cache-Control", "no-store")
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, p.html())
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, p.text())
	})
}

// page is the content of a hello box's page.
type page struct {
	Box   string
	Asked string // the address in the request
	From  string // the client, as the box sees the client
	Addr  string // the box's own address
	Up    time.Duration
}

// pageOf returns the page for a request to a box started up ago.
func pageOf(r *http.Request, up time.Duration) page {
	p := page{Asked: r.Host, From: withoutPort(r.RemoteAddr), Up: up.Truncate(time.Second)}
	if name, err := os.Hostname(); err == nil {
		p.Box = name
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		p.Addr = withoutPort(a.String())
	}
	return p
}

// withoutPort returns the address without the port; addr itself if there is no port.
func withoutPort(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// rows returns the page's lines, as label and value.
func (p page) rows() [][2]string {
	return [][2]string{
		{"box", p.Box}, {"address", p.Addr}, {"asked at", p.Asked}, {"asked by", p.From}, {"up", p.Up.String()},
	}
}

func (p page) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Hello from %s, a box that boxrun brought up.\n\n", p.Box)
	for _, row := range p.rows() {
		fmt.Fprintf(&b, "  %-9s %s\n", row[0], row[1])
	}
	return b.String()
}

func (p page) html() string {
	var b strings.Builder
	for _, row := range p.rows() {
		fmt.Fprintf(&b, "<dt>%s</dt><dd>%s</dd>\n", row[0], html.EscapeString(row[1]))
	}
	return fmt.Sprintf(helloHTML, html.EscapeString(p.Box), b.String())
}

const helloHTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Hello from %[1]s</title>
<style>
body { font: 1.1em/1.6 system-ui, sans-serif; max-width: 32em; margin: 15vh auto; padding: 0 1em; color-scheme: light dark }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.5em }
dt { opacity: .6 } dd { margin: 0; font-family: ui-monospace, monospace }
</style>
<h1>Hello from %[1]s</h1>
<p>This box was brought up by boxrun.</p>
<dl>
%[2]s</dl>
</html>
`
