package coldfront

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"boxrun/e2e/testhost"
)

// portal is the name by which the browser knows the host: no name server and no hosts file has it.
const portal = "portal.example.org"

// visit is what a person does with a browser. What is "" is left out.
type visit struct {
	Session        string // of an earlier visit: the person is logged in with it
	User, Password string // to log in with
	Create         string // title of a project to create
	Screenshot     string // file to write a picture of the last page to
}

// seen is what a person sees at the end of a visit.
type seen struct {
	Session  string
	Title    string
	Login    string // how the login page is styled: color of its header and family of its font
	Home     string // text of the home page
	Projects string // text of the list of projects
}

const visitVariable = "BOXRUN_TEST_VISIT"

// TestMain is the browser's side too: the tests run their own program on the client, where the browser has to be.
func TestMain(m *testing.M) {
	if text := os.Getenv(visitVariable); text != "" {
		if err := visitFromText(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// visitFromText makes the visit that the tests ask for, and answers on stdout.
func visitFromText(text string) error {
	var v visit
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	s, err := v.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// visit has the client's browser make a visit.
func (h host) visit(v visit) seen {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	text, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := h.ClientCommand(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), visitVariable+"="+string(text))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("visiting the portal: %v\n%s", err, stderr.String())
	}
	var s seen
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		h.t.Fatalf("reading what was seen: %v\n%s", err, stdout.String())
	}
	return s
}

// run makes the visit with a Chromium of its own.
func (v visit) run() (seen, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox,        // which Chromium does not start with for root
		chromedp.IgnoreCertErrors, // it signs itself, as it says
		chromedp.WindowSize(1200, 900),
		chromedp.Flag("host-resolver-rules", "MAP "+portal+" "+testhost.HostAddr),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil { // starts it, for as long as this context lives
		return seen{}, err
	}
	var s seen
	for _, step := range []func(context.Context, *seen) error{v.arrive, v.logIn, v.create, v.look} {
		if err := within(ctx, func(ctx context.Context) error { return step(ctx, &s) }); err != nil {
			return s, errors.Join(err, within(ctx, showPage))
		}
	}
	return s, nil
}

// within gives a step of a visit 20 s.
func within(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return step(ctx)
}

// arrive opens the portal as a person types it, by http, and looks at the login page; with a session there is none.
func (v visit) arrive(ctx context.Context, s *seen) error {
	if v.Session != "" {
		_, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{
			Name: "sessionid", Value: v.Session, URL: "https://" + portal + "/",
		})
		return err
	}
	err := chromedp.Do(ctx,
		chromedp.Navigate("http://"+portal+"/"),
		chromedp.Click(`a[href^="/user/login"]`),
		chromedp.WaitVisible("#id_username"),
	)
	if err != nil {
		return err
	}
	if s.Title, err = chromedp.Run(ctx, chromedp.Title()); err != nil {
		return err
	}
	s.Login, err = chromedp.Run(ctx, chromedp.Evaluate[string](`[getComputedStyle(document.querySelector(".card-header")).backgroundColor,
		getComputedStyle(document.body).fontFamily.split(",")[0]].join(" ")`))
	return err
}

func (v visit) logIn(ctx context.Context, _ *seen) error {
	if v.User == "" {
		return nil
	}
	return chromedp.Do(ctx,
		chromedp.SendKeys("#id_username", v.User),
		chromedp.SendKeys("#id_password", v.Password),
		chromedp.Submit("#id_password"),
		chromedp.WaitReady(`a[href="/project/"]`),
	)
}

func (v visit) create(ctx context.Context, _ *seen) error {
	if v.Create == "" {
		return nil
	}
	return chromedp.Do(ctx,
		chromedp.Navigate("https://"+portal+"/project/create/"),
		chromedp.SendKeys("#id_title", v.Create),
		chromedp.SetValue("#id_description", "Made by a browser, to be there for as long as the site wants it."),
		chromedp.Submit("#id_title"),
		chromedp.WaitVisible(`//h2[contains(., "`+v.Create+`")]`),
	)
}

// look reads the list of projects and the home page, and takes the picture.
func (v visit) look(ctx context.Context, s *seen) error {
	var err error
	if s.Projects, err = text(ctx, "https://"+portal+"/project/"); err != nil {
		return err
	}
	if s.Home, err = text(ctx, "https://"+portal+"/"); err != nil {
		return err
	}
	if s.Session, err = session(ctx); err != nil || v.Screenshot == "" {
		return err
	}
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(v.Screenshot, picture, 0o644)
}

// text opens a page and reads it.
func text(ctx context.Context, page string) (string, error) {
	if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
		return "", err
	}
	return chromedp.Run(ctx, chromedp.Text("body"))
}

// session gives the cookie of the one who is logged in.
func session(ctx context.Context) (string, error) {
	all, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{})
	if err != nil {
		return "", err
	}
	for _, c := range all.Cookies {
		if c.Name == "sessionid" {
			return c.Value, nil
		}
	}
	return "", errors.New("nobody is logged in")
}

// showPage gives what the browser shows as an error, for the message of another.
func showPage(ctx context.Context) error {
	at, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err
	}
	shown, err := chromedp.Run(ctx, chromedp.Text("body"))
	return errors.Join(err, fmt.Errorf("the browser shows %s:\n%s", at, strings.TrimSpace(shown)))
}
