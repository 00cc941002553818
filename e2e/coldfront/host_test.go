package coldfront

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// patience is how long any one command may take. The longest is the build of the image, of two minutes where nothing else
// is going on.
const patience = 10 * time.Minute

// host is a test host with boxrun, on which an image can be built.
type host struct {
	*testhost.Host
	t *testing.T
}

func newHost(t *testing.T) host {
	t.Helper()
	th, err := testhost.New(t.Context(), func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := th.Close(); err != nil {
			t.Error(err)
		}
	})
	bin := t.TempDir()
	for _, err := range []error{
		testhost.Build(t.Context(), bin), th.Install(t.Context(), bin), th.LetBuild(t.Context()), th.GoOnline(t.Context()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return host{th, t}
}

// run runs a script on the host, however it ends.
func (h host) run(script string) testhost.Result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r, err := h.Exec(ctx, "bash", "-ec", script)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// must runs a script on the host that has to succeed, and gives what it said.
func (h host) must(script string) testhost.Result {
	h.t.Helper()
	r := h.run(script)
	if r.Code != 0 {
		h.t.Fatalf("%s\n%v", script, r)
	}
	return r
}

// online runs a script on the host that needs Debian's mirrors or PyPI, however it ends.
func (h host) online(script string) testhost.Result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r, err := h.Online(ctx, "bash", "-ec", script)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// curl has curl on the client ask the portal, by the name that argv has for it, and gives what it prints.
func (h host) curl(argv ...string) string {
	h.t.Helper()
	portals := []string{"curl", "-sSk", "-m", "20", "--connect-to", "::" + testhost.HostAddr + ":"}
	r, err := h.Client(h.t.Context(), append(portals, argv...)...)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Stdout + r.Stderr
}

// page gives the code of the answer to who asks for the login page by a name.
func (h host) page(name string) string {
	h.t.Helper()
	return h.curl("-o", "/dev/null", "-w", "%{http_code}", "https://"+name+"/user/login")
}

// logInFrom gives the code of the answer to a form that a browser sends from a page of an origin. A proxy that changes the
// header Host leaves the header Origin as it is.
func (h host) logInFrom(origin string) string {
	h.t.Helper()
	token := strings.Repeat("t", 32)
	return h.curl("-o", "/dev/null", "-w", "%{http_code}", "-b", "csrftoken="+token, "-H", "Origin: "+origin,
		"-d", "csrfmiddlewaretoken="+token+"&username=nobody&password=none", "https://"+portal+"/user/login")
}

// addr gives the address of the box.
func (h host) addr() string {
	h.t.Helper()
	return strings.TrimSpace(h.must("boxrun ps --json | jq -r '.[] | select(.name == \"coldfront\").address'").Stdout)
}

// healthy wants every unit of the box to do well, and its secrets to be for those who need them.
func (h host) healthy() {
	h.t.Helper()
	if r := h.run("boxrun exec coldfront -- systemctl is-system-running"); r.Stdout != "running\n" {
		h.t.Errorf("the box is %v%s", r, h.run("boxrun exec coldfront -- systemctl --failed").Stdout)
	}
	got := h.must("cd " + kept + "; stat -c '%a %u:%g %n' etc etc/coldfront.env etc/tls etc/tls/coldfront.key postgresql/17/main").Stdout
	want := "750 0:880 etc\n640 0:880 etc/coldfront.env\n700 0:0 etc/tls\n600 0:0 etc/tls/coldfront.key\n700 881:881 postgresql/17/main\n"
	if got != want {
		h.t.Errorf("files are\n%swant\n%s", got, want)
	}
}

// createAdmin answers what the command asks on a terminal.
func (h host) createAdmin(command string) {
	h.t.Helper()
	said := h.talk(command, [][2]string{
		{"Username", admin}, {"Email address", "ada@example.org"}, {"Password", password}, {"Password (again)", password},
	})
	if !strings.Contains(said, "Superuser created successfully.") {
		h.t.Fatalf("the command says %q, want that the user was made", said)
	}
}

// talk runs a command on a terminal and types an answer to each thing that it says in turn. It gives what is shown at the
// end, of a command that has to succeed.
func (h host) talk(command string, answers [][2]string) string {
	h.t.Helper()
	term, err := h.Terminal(h.t.Context(), 24, 100, "bash", "-c", command)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, a := range answers {
		if err := term.Expect(a[0], 30*time.Second); err != nil {
			h.t.Error(err)
			break
		}
		if err := term.Type(a[1] + "\n"); err != nil {
			h.t.Error(err)
		}
	}
	r, err := term.Wait(30 * time.Second)
	if err != nil || r.Code != 0 {
		h.t.Fatalf("%s: %v %v", command, err, r)
	}
	return r.Stdout
}

// databaseWas wants PostgreSQL's word on how it ended before this boot of the box. It comes from a process that may be gone
// before the journal has seen of which unit it was.
func (h host) databaseWas(how string) {
	h.t.Helper()
	got := h.run("boxrun logs -n 2000 coldfront | grep -o 'database system was .*'").Stdout
	if want := "database system was " + how; !strings.HasPrefix(got, want) {
		h.t.Errorf("the database says %q, want %q", got, want)
	}
}

// visited wants somebody with an earlier session to be logged in still, and to see text on the home page.
func (h host) visited(session, text string) {
	h.t.Helper()
	if s := h.visit(visit{Session: session}); !strings.Contains(s.Home, text) {
		h.t.Errorf("the home page says\n%s\nwant %q in it", s.Home, text)
	}
}

// presents wants the portal to have the certificate of a name, soon: nginx says that it reloads before it has.
func (h host) presents(name string) {
	h.t.Helper()
	const ask = "echo | openssl s_client -connect 127.0.0.1:443 2> /dev/null | openssl x509 -noout -subject"
	var got string
	for range 50 {
		if got = strings.TrimSpace(h.must(ask).Stdout); got == "subject=CN="+name || got == "subject=CN = "+name {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	h.t.Errorf("the certificate has %s, want that of %s", got, name)
}

// otherWay has the recipe's script for machines without Apptainer make the image where it is not cached, which takes as
// long as the steps before it is needed. The answer waits for it.
func otherWay(t *testing.T) func() (string, error) {
	build := sync.OnceValues(func() (string, error) { return testhost.ColdfrontRoot(t.Context(), func(string) {}) })
	go build()
	t.Cleanup(func() { _, _ = build() })
	return build
}

// anotherImage puts an image in the place of the one there is: one that says it is newer, and a sandbox this time.
func (h host) anotherImage(sandbox func() (string, error)) {
	h.t.Helper()
	root, err := sandbox()
	if err != nil {
		h.t.Fatal(err)
	}
	h.must("rm " + testhost.ColdfrontImage)
	if err := h.CopyTree(root, testhost.ColdfrontImage); err != nil {
		h.t.Fatal(err)
	}
	h.must("echo newer > " + testhost.ColdfrontImage + "/usr/lib/coldfront/image")
}
