package habits

import (
	"slices"
	"strings"
	"testing"
)

// knowsShop knows the box shop and the built-in profile hello.
func knowsShop(name string) (string, bool) {
	file := map[string]string{"shop": "/etc/boxrun/profiles/shop.toml", "hello": "builtin:hello"}[name]
	return file, file != ""
}

const (
	inResources = " below [resources] in /etc/boxrun/profiles/shop.toml, and \"boxrun up shop\" brings that to a box that is up"
	anew        = " below [storage] in /etc/boxrun/profiles/shop.toml, and \"boxrun up --replace shop\" starts the box anew with it"
	seen        = `, and "journalctl -u boxrun-shop -u boxrun@shop" what the host saw of it`
)

// A line of another tool is answered with what to type, the words of the user filled in. Every form has its line.
func TestForms(t *testing.T) {
	unused := slices.Collect(entries(formsText))
	for line, want := range map[string]string{
		"run shop id":                              `"boxrun exec shop -- id" runs a command in a box that is up`,
		"run --rm -it -e A=b shop sh -c id":        `"boxrun exec shop -- sh -c id" runs a command in a box that is up`,
		"run -u bob -v /a:/b shop -- ls -l":        `"boxrun exec -u bob shop -- ls -l" runs a command in a box that is up`,
		"run -d shop":                              `"boxrun up shop" starts a box, and "boxrun shell shop" opens a shell in it`,
		"run -it debian bash":                      "", // no box: an image
		"rm -v shop":                               `"boxrun down shop" takes a box away, "boxrun kept rm shop" what it left, if anything, and "boxrun disable shop" its starts at boot; its profile is a file of yours to remove`,
		"rm -f web shop":                           `"boxrun down web shop" takes a box away, "boxrun kept rm web shop" what it left, if anything, and "boxrun disable web shop" its starts at boot; its profile is a file of yours to remove`,
		"remove shop":                              `"boxrun down shop" takes a box away, "boxrun kept rm shop" what it left, if anything, and "boxrun disable shop" its starts at boot; its profile is a file of yours to remove`,
		"update --memory 512m shop":                `memory = "512M"` + inResources,
		"update -m=512m shop":                      `memory = "512M"` + inResources,
		"update --cpus 2 shop":                     `cpus = 2` + inResources,
		"update --pids-limit 100 shop":             `pids = 100` + inResources,
		"update --restart always shop":             `"boxrun enable shop" has a box started at boot, and again when it dies`,
		"update --memory 512m --cpus 2 shop":       "", // no form has both
		"set-property shop MemoryMax=512M":         `memory = "512M"` + inResources,
		"set-property shop TasksMax=100":           `pids = 100` + inResources,
		"set-property shop CPUQuota=50%":           `cpus = 0.5` + inResources,
		"set-property --runtime gone MemoryMax=1G": `memory = "1G" below [resources] in its profile, and "boxrun up gone" brings that to a box that is up`,
		"set-limit shop 2g":                        `root = "overlay" and overlay_size = "2G" below [storage] in /etc/boxrun/profiles/shop.toml bound what a box keeps on the disk, after "boxrun up --replace shop"`,
		"config shop":                              `"boxrun profile show shop" prints a profile with all effective values, /etc/boxrun/profiles/shop.toml is what was written, and "boxrun diff shop" shows what changed since the start`,
		"config":                                   "",
		"top shop":                                 `"boxrun exec shop -- top" shows the processes of a box, and "boxrun stats shop" what it uses`,
		"port shop":                                `"boxrun status shop" lists the ports of a box, and who can reach them`,
		"port shop 80/tcp":                         `"boxrun status shop" lists the ports of a box, and who can reach them`,
		"kill -s KILL shop":                        `"boxrun down --timeout 0 shop" kills a box at once`,
		"terminate shop web":                       `"boxrun down --timeout 0 shop web" kills a box at once`,
		"pause shop":                               `a box runs or is down: "boxrun down shop" takes it down, and "boxrun up shop" up again`,
		"unpause shop":                             `a box runs or is down: "boxrun up shop" brings it up`,
		"wait shop":                                `"boxrun up shop" returns when a box is ready, and "boxrun status --watch 24h shop" when it has died`,
		"create shop":                              `"boxrun up shop" starts the box of the profile that there is, /etc/boxrun/profiles/shop.toml`,
		"create web":                               "",
		"rename shop store":                        `a box has the name of its profile: "boxrun down shop", then "mv /etc/boxrun/profiles/shop.toml /etc/boxrun/profiles/store.toml", and "mv /var/lib/boxrun/shop /var/lib/boxrun/store" where it kept anything, then "boxrun up store"`,
		"rename hello store":                       "", // there is no file to rename
		"clone shop two":                           `"cp /etc/boxrun/profiles/shop.toml /etc/boxrun/profiles/two.toml" makes a profile with the same image, and "boxrun up two" starts its box`,
		"compose up -d":                            `"boxrun up PROFILE..." brings boxes up as their profiles say`,
		"compose up -d shop":                       `"boxrun up -d shop" does that, and knows boxes by the names of their profiles`,
		"compose -f a.yaml exec shop sh":           `"boxrun exec shop sh" does that, and knows boxes by the names of their profiles`,
		"compose down":                             `"boxrun down --all" takes all boxes down`,
		"compose -p x restart":                     `"boxrun restart --all" starts all boxes anew`,
		"login shop":                               `"boxrun shell shop" opens a shell in a box`,
		"login www-data@shop":                      `"boxrun shell -u www-data shop" opens a shell in a box as a user`,
		"ssh bob@shop ls -l /a b":                  `"boxrun exec -u bob shop -- ls -l /a b" runs a command in a box as a user`,
		"ssh shop uptime":                          `"boxrun exec shop -- uptime" runs a command in a box`,
		"login web@1":                              `"boxrun shell web@1" opens a shell in a box`,
		"copy-to shop /root/f /tmp/f":              `"boxrun cp /root/f shop:/tmp/f" copies into a box`,
		"copy-to shop /root/f":                     `"boxrun cp /root/f shop:/root/f" copies into a box`,
		"copy-from shop /etc/hostname x":           `"boxrun cp shop:/etc/hostname x" copies out of a box`,
		"copy-from shop /etc/hostname":             `"boxrun cp shop:/etc/hostname /etc/hostname" copies out of a box`,
		"copy a shop:b":                            `"boxrun cp a shop:b" copies into a box and out of it`,
		"file push a shop/tmp/b":                   `"boxrun cp a shop:/tmp/b" copies into a box`,
		"file pull shop/tmp/b a":                   `"boxrun cp shop:/tmp/b a" copies out of a box`,
		"bind shop /srv":                           `binds = ["/srv:/srv"]` + anew,
		"bind --mkdir shop /srv /data":             `binds = ["/srv:/data"]` + anew,
		"bind --read-only shop /srv /data":         `binds = ["/srv:/data:ro"]` + anew,
		"bind --read-only shop /srv":               `binds = ["/srv:/srv:ro"]` + anew,
		"poweroff shop web":                        `"boxrun down shop web" takes a box away`,
		"reboot shop":                              `"boxrun restart shop" starts a box anew`,
		"rollout restart shop":                     `"boxrun restart shop" starts a box anew`,
		"show -p Leader shop":                      `"boxrun status shop" shows all of a box, and "boxrun status --json shop" all of it for jq`,
		"show web":                                 `"boxrun status web" shows all of a box`,
		"describe pod web":                         `"boxrun status web" shows all of a box`,
		"journalctl -M shop -u nginx -n 5":         `"boxrun logs -u nginx -n 5 shop" prints the journal of a box`,
		"journalctl --machine=shop":                `"boxrun logs shop" prints the journal of a box`,
		"journalctl -f -u shop":                    `"boxrun logs -f shop" prints the journal of a box` + seen,
		"journalctl -u shop":                       `"boxrun logs shop" prints the journal of a box` + seen,
		"systemctl -M shop status nginx":           `"boxrun exec shop -- systemctl status nginx" asks the systemd in a box`,
		"systemctl restart nginx --machine=shop":   `"boxrun exec shop -- systemctl restart nginx" asks the systemd in a box`,
		"edit shop":                                `the profile is /etc/boxrun/profiles/shop.toml: edit that, "boxrun diff shop" shows what differs then, and "boxrun up shop" or "boxrun up --replace shop" brings it to the box`,
		"cat hello":                                `"boxrun profile show hello" prints a profile with all effective values, its profile is what was written, and "boxrun diff hello" shows what changed since the start`,
		"validate shop":                            `"boxrun profile check shop" says what is wrong in a profile`,
		"is-active shop":                           `"boxrun status --check shop" tells by its exit code whether a box is well`,
		"is-enabled shop":                          `"boxrun status shop" tells behind "enabled:"`,
		"delta shop":                               `"boxrun diff shop" shows what changed since the start`,
		"daemon-reload shop":                       `"boxrun diff shop" shows what changed, "boxrun up shop" brings changed ports and limits to the box, and "boxrun up --replace shop" all else, by a new start`,
		"network reload shop":                      `"boxrun repair" puts back what boxes lost of their networks, and "boxrun status shop" says what is out of place`,
		"events":                                   "",
		"run -u":                                   "",
		"journalctl -M":                            "",
	} {
		words := strings.Fields(line)
		if got := Instead(words[0], words[1:], knowsShop); got != want {
			t.Errorf("boxrun %s: got\n%s\nwant\n%s", line, got, want)
		}
		for i, entry := range unused {
			if f := formOf(entry); slices.Contains(f.verbs, words[0]) && want != "" {
				if b := f.fit(words[1:]); b != nil && b.complete(f, knowsShop) && b.filled(f.instead) == want {
					unused = slices.Delete(unused, i, i+1)
					break
				}
			}
		}
	}
	if len(unused) > 0 {
		t.Errorf("no line has the forms\n%s", strings.Join(unused, "\n"))
	}
}

// What stands where it does not belong is answered with the whole line to type.
func TestLinesToType(t *testing.T) {
	for got, want := range map[string]string{
		CommandOfShell([]string{"www-data@shop", "/usr/bin/id"}, "", knowsShop):      `shell takes no command: "boxrun exec -u www-data shop -- /usr/bin/id" runs one`,
		CommandOfShell([]string{"shop", "sh", "-c", "echo a b"}, "bob", knowsShop):   `shell takes no command: "boxrun exec -u bob shop -- sh -c 'echo a b'" runs one`,
		CommandOfShell([]string{"web@1", "id"}, "", knowsShop):                       `shell takes no command: "boxrun exec web@1 -- id" runs one`,
		UserOfName("boxrun shell", "bob", "shop", nil):                               `there is neither a box nor a profile named "bob@shop": "boxrun shell -u bob shop" enters shop as a user`,
		UserOfName("boxrun exec", "bob", "shop", []string{"sh", "-c", "echo $HOME"}): `there is neither a box nor a profile named "bob@shop": "boxrun exec -u bob shop -- sh -c 'echo $HOME'" enters shop as a user`,
	} {
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}
