package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"boxrun/cmd/boxrun/habits"
)

// refusalOf returns what boxrun says of a command line that it refuses before it does anything.
func refusalOf(t *testing.T, line string) string {
	t.Helper()
	root := newRoot(newTerminal(os.Stdin, os.Stdout, os.Stderr), "")
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	root.SetArgs(strings.Fields(line))
	err := root.ExecuteContext(t.Context())
	if err == nil {
		t.Fatalf("boxrun %s: got no error", line)
	}
	return err.Error()
}

// What fingers know from a tool is answered with what boxrun does instead.
func TestHabits(t *testing.T) {
	for tool, lines := range map[string]map[string]string{
		"docker, podman": {
			"run -it --rm -p 8080:80 debian": "boxrun exec PROFILE", "create web": "boxrun profile init", "attach web": "boxrun shell",
			"rm -f web": "boxrun kept rm", "kill -s 9 web": "boxrun down --timeout 0", "events": "journalctl -f -u 'boxrun*'", "port web": "boxrun status",
			"pull debian": "boxrun build", "images": "boxrun profile list", "image ls": "boxrun profile list", "rmi web": "yours to copy or remove",
			"container ls": "boxrun ps", "network ls": "boxrun host show", "volume ls": "boxrun kept list", "system df": "boxrun kept list",
			"pause web": "boxrun down", "export web": "boxrun kept export", "rename web www": "boxrun profile list", "commit web": "boxrun build",
			"top web": "boxrun exec web -- top", "checkpoint web": "boxrun kept export", "generate systemd web": "boxrun up", "secret ls": "[secrets]",
			"up -p 8080:80 web": "ports = ", "up -v /srv:/srv web": "binds = ", "up -e A=b web": "environment = ", "up --name web x": "name of its profile",
			"up --rm web": "root = ", "up -it web": "boxrun shell", "up --privileged web": "level below [security]", "up --restart always web": "boxrun enable",
			"up --memory 2G web": "memory = ", "up --network host web": "mode below [network]", "ps --filter name=web": "--json", "ps --no-trunc": "boxrun ps | cat",
			"logs --timestamps web": "short-iso", "logs -t web": "short-iso", "inspect -f {{.State}} web": "--json",
			"exec -d web -- id": "systemd-run", "stop -s KILL web": "boxrun down --timeout 0", "build -t web .": "[build]", "build --no-cache web": "boxrun build --force",
			"ps -l": "boxrun status", "build -f web.def web": "[build]", "up -y web": "nobody is asked", "kept prune": "boxrun kept list",
			"-H ssh://there ps": "ssh HOST boxrun ps", "update --restart always web": "boxrun enable", "wait web": "returns when a box is ready",
		},
		"docker compose": {
			"-f compose.yaml up": "boxrun up ./web.toml", "up -f web.toml": "boxrun up ./web.toml",
			"--project-name shop up": "depends_on", "down -v web": "boxrun kept rm", "down --rmi all web": "an image stays", "up --scale web=3": "boxrun up NAME@1 NAME@2",
			"up --force-recreate web": "boxrun restart", "up --pull always web": "boxrun build --force", "config": "boxrun profile show", "up --no-deps web": "depends_on",
			"logs --no-log-prefix web": "boxrun logs --no-prefix", "ps --services": "boxrun ps -q", "scale web=3": "boxrun up NAME@1 NAME@2", "compose up": "boxrun up",
		},
		"machinectl, systemd-nspawn": {
			"login web": "boxrun shell", "poweroff web": "boxrun down", "reboot web": "boxrun restart", "terminate web": "boxrun down --timeout 0",
			"show web": "boxrun status", "copy-to web /a /b": "boxrun cp", "bind web /srv": "binds = ", "list-images": "boxrun profile list",
			"image-status web": "boxrun profile list", "clone web www": "yours to copy or remove", "set-limit web 2G": "overlay_size = ", "clean": "boxrun kept list",
			"pull-tar http://x": "boxrun build", "export-tar web": "boxrun kept export", "edit web": "boxrun profile list", "profile edit web": "a profile is a file to edit", "profile create web": "boxrun profile init", "host info": "boxrun host show", "cat web": "boxrun profile show",
			"-M web status": "boxrun logs PROFILE", "up -D /srv/web": "image = ", "shell --uid=bob web": "boxrun shell -u USER", "up --bind=/srv web": "binds = ",
		},
		"systemctl, journalctl, Quadlet": {
			"is-active web": "boxrun status --check", "is-enabled web": "boxrun status web", "daemon-reload": "boxrun up --replace", "reload web": "boxrun up --replace",
			"list-units": "boxrun ps", "reset-failed web": "boxrun enable", "try-restart web": "boxrun restart", "journalctl -u web": "boxrun logs",
			"logs -xe web": "boxrun logs -n 50", "logs -b web": "journalctl -b", "logs -k web": "journalctl -k", "logs -r web": "journalctl -r",
			"status -n 5 web": "boxrun logs -n 50", "--user status web": "sudo boxrun up", "halt web": "boxrun down", "auto-update": "boxrun enable", "enable --user web": "need root", "doctor -a": "boxrun doctor -v",
		},
		"lxc, incus": {
			"launch debian web": "boxrun profile init", "info web": "boxrun host show", "console web": "boxrun shell", "file push a web/b": "boxrun cp",
			"delete web": "boxrun kept rm", "snapshot web": "boxrun kept export", "freeze web": "boxrun down", "monitor": "boxrun logs", "move web www": "boxrun profile list",
			"storage list": "boxrun kept list", "device add web": "boxrun profile list", "stop --force web": "boxrun down --timeout 0", "exec --cwd /tmp web -- id": "boxrun exec -w DIR",
		},
		"limactl, vagrant, multipass": {
			"halt": "boxrun down", "ssh web": "boxrun shell", "destroy web": "boxrun kept rm", "provision web": "post_up", "suspend web": "boxrun down", "resume web": "boxrun up",
			"global-status": "boxrun ps -a", "validate": "boxrun profile check", "factory-reset web": "boxrun restart", "transfer a web:b": "boxrun cp", "disk list": "boxrun kept list",
			"copy a web:b": "boxrun cp", "up --provision web": "boxrun build --force", "shell --shell zsh web": "boxrun exec", "purge": "boxrun kept list", "set web": "boxrun profile list", "networks": "boxrun host show",
			"shell --workdir /tmp web": "boxrun exec -w DIR",
		},
		"kubectl": {
			"get pods": "boxrun ps", "describe pod web": "boxrun status", "apply -f web.yaml": "boxrun up", "port-forward web 8080:80": "ports = ", "expose web": "ports = ",
			"rollout restart web": "boxrun restart", "explain web": "boxrun profile show", "debug web": "boxrun exec", "-n shop ps": "boxrun logs PROFILE",
			"ps -A": "boxrun ps -a", "ps -o wide": "--json", "ps -w": "watch boxrun ps", "logs -c nginx web": "boxrun logs -u UNIT", "logs -l app=web": "takes the names of boxes", "logs --previous web": "the journal that it left",
			"exec -c nginx web -- id": "a box is one container", "--context there ps": "ssh HOST boxrun ps",
		},
	} {
		for line, want := range lines {
			if got := refusalOf(t, line); !strings.Contains(got, want) || strings.Contains(got, "\n") {
				t.Errorf("%s: boxrun %s: got %q, want %q in one line", tool, line, got, want)
			}
		}
	}
}

// quoted has the commands of boxrun that a hint names.
var quoted = regexp.MustCompile(`"(?:[^" ]+ )?boxrun ([a-z][^"]*)"`)

// Hints name verbs and flags that there are, and no verb of boxrun is foreign.
func TestHabitsNameVerbsAndFlags(t *testing.T) {
	root := newRoot(newTerminal(os.Stdin, os.Stdout, os.Stderr), "")
	hints := habits.Hints()
	if len(hints) < 90 {
		t.Fatalf("got %d hints", len(hints))
	}
	for _, hint := range hints {
		for _, m := range quoted.FindAllStringSubmatch(hint, -1) {
			if err := parsed(strings.Fields(m[1])); err != nil {
				t.Errorf("%s: boxrun %s: %v", hint, m[1], err)
			}
		}
	}
	for _, foreign := range habits.Commands(nil) {
		for _, verb := range root.Commands() {
			if verb.Short != foreign.Short && (verb.Name() == foreign.Name() || verb.HasAlias(foreign.Name())) {
				t.Errorf("%s is a verb, and a habit", foreign.Name())
			}
		}
	}
}
