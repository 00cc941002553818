package e2e

import "testing"

// A file of a box's name in the current directory does not take over the box, whatever the verb.
func TestAFileOfABoxsNameTakesOverNothing(t *testing.T) {
	h := newHost(t)
	h.profile("site", "image = \"builtin:hello\"\n")
	h.must("boxrun", "up", "site")
	h.sh("mkdir -p /srv/other; echo 'image = \"/srv/nosuch\"' > /srv/other/site.toml")
	const told = "site: means /etc/boxrun/profiles/site.toml, from which the box was started, not site.toml"
	for _, verb := range []string{
		"restart site", "up site", "up --replace site", "diff site", "status site", "profile show site", "profile check site",
	} {
		r := h.run("sh", "-c", "cd /srv/other; boxrun "+verb)
		if r.Code != 0 || !containsAll(r.Stderr, []string{told}) {
			t.Errorf("%s: %v, want %q", verb, r, told)
		}
	}
	list := h.sh("cd /srv/other; boxrun profile list | grep ^site; boxrun profile list --json | jq -r '.[] | select(.name == \"site\") | .shadowed_by'")
	if want := []string{"site.toml", "not used: /etc/boxrun/profiles/site.toml counts\n", "\n/etc/boxrun/profiles/site.toml\nnull\n"}; !containsAll(list, want) {
		t.Errorf("profile list says\n%s\nwant %q", list, want)
	}
	for _, verb := range []string{"exec site -- true", "logs site", "ps site", "up --dry-run site", "down --dry-run site"} {
		h.must("sh", "-c", "cd /srv/other; boxrun "+verb)
	}
	h.fails(2, []string{"/srv/other/site.toml is not for the whole host"}, "sh", "-c", "cd /srv/other; boxrun enable site")
	h.must("sh", "-c", "cd /srv/other; boxrun down site")
	h.fails(1, []string{"/srv/nosuch"}, "sh", "-c", "cd /srv/other; boxrun up site")
}
