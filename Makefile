PREFIX  ?= /usr/local
DESTDIR ?=
# Where "make deps" puts Go if Debian's is too old comes first: it is put there only then.
export PATH := /usr/local/go/bin:$(PATH):/usr/sbin:/sbin

VERSION = $(shell git describe --tags --always --dirty 2> /dev/null || echo unknown)
BUILD   = CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# The race detector needs a C compiler. By default it has each program sleep for a second at its end, and the tests in
# namespaces run themselves a thousand times.
RACE    = $(shell command -v gcc > /dev/null && echo -race)
LINT    = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# All but the end-to-end tests, which need root and a booted host.
UNIT    = ./cmd/... ./launcher/... ./netsetup/... ./profiles/...

.PHONY: help build install deps check arch arch32 shape fuzz e2e test test-vm test-cluster test-coldfront demo testhost bench soak lint clean

help:
	@echo 'make build      bin/boxrun, one static binary'
	@echo 'make install    boxrun, its completions and manual pages below $$(DESTDIR)$$(PREFIX), $(PREFIX) by default, and'
	@echo '                the agent of Pacemaker in $$(DESTDIR)/usr/lib/ocf'
	@echo 'make demo       boxrun at work on a test host (root; installs what it needs)'
	@echo 'make test       the tests (root; installs what they need)'
	@echo 'make test-vm    the tests that need a kernel of their own, in an emulated machine (root; installs QEMU)'
	@echo 'make test-cluster  boxes on three hosts with Corosync and Pacemaker, to which things happen (root); ROUNDS=5 for medians'
	@echo 'make test-coldfront  the portal ColdFront, built and used with a browser (root; needs a Debian mirror and PyPI; installs Chromium)'
	@echo 'make check      the tests that need no root'
	@echo 'make arch       boxrun for other architectures, with some tests under emulation (root; installs qemu-user)'
	@echo 'make testhost   a shell on a booted test host with boxrun (root); HOST=debian12 for another release'
	@echo 'make bench      boxrun beside Apptainer alone, Podman and systemd-nspawn: docs/performance.md (root)'
	@echo 'make soak       the tests at full length: two hours, and 5 minutes for each fuzz target (root)'
	@echo 'make lint       golangci-lint'
	@echo 'make shape      how large packages, types and functions are, against the limits of docs/development.md'
	@echo 'make deps       what the above need, from Debian (root)'
	@echo 'make clean      remove what was built here'

# Go knows what is up to date.
build:
	$(BUILD) -o bin/boxrun ./cmd/boxrun

bin/probe: $(wildcard e2e/cmd/probe/*.go)
	$(BUILD) -o bin/probe ./e2e/cmd/probe

install: build
	install -D -m 755 bin/boxrun $(DESTDIR)$(PREFIX)/bin/boxrun
	bin/boxrun completion bash > bin/boxrun.bash
	bin/boxrun completion zsh > bin/boxrun.zsh
	bin/boxrun completion fish > bin/boxrun.fish
	install -D -m 644 bin/boxrun.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/boxrun
	install -D -m 644 bin/boxrun.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_boxrun
	install -D -m 644 bin/boxrun.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/boxrun.fish
	@# Debian's fish looks nowhere below /usr/local, but in /etc/fish where it is installed.
	if [ "$(PREFIX)" = /usr/local ] && [ -d $(DESTDIR)/etc/fish ]; then \
		install -D -m 644 bin/boxrun.fish $(DESTDIR)/etc/fish/completions/boxrun.fish; \
	fi
	rm -rf bin/man
	GOOS= GOARCH= go run -tags man -ldflags "-X main.version=$(VERSION)" ./cmd/boxrun man bin/man
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 bin/man/man1/* $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 bin/man/man5/* $(DESTDIR)$(PREFIX)/share/man/man5
	install -D -m 755 cluster/ocf/box $(DESTDIR)/usr/lib/ocf/resource.d/boxrun/box

deps:
	@e2e/deps.sh

check:
	@test -z "$$(gofmt -l .)" || { echo 'gofmt would change:'; gofmt -l .; exit 1; }
	go vet ./...
	GORACE=atexit_sleep_ms=0 go test $(RACE) -timeout 15m $(UNIT)

# The architectures people run, as GOARCH:QEMU. The tests run emulated are of what depends on the architecture: sizes, the
# order of bytes, raw system calls. Those in namespaces of their own are skipped (nstest.InNamespace).
ARCHES   = arm64:aarch64 ppc64le:ppc64le riscv64:riscv64 s390x:s390x
EMULATED = ./profiles ./netsetup/rules ./launcher/say ./launcher/apptainer
arch:
	@e2e/deps.sh arch
	@for arch in $(ARCHES); do \
		echo "GOARCH=$${arch%:*}"; export CGO_ENABLED=0 GOARCH=$${arch%:*} BOXRUN_EMULATED=1; \
		go build -o /dev/null ./cmd/boxrun && \
		go test -vet=off -count=1 -exec qemu-$${arch#*:} $(EMULATED) && \
		go test -vet=off -count=1 -exec qemu-$${arch#*:} -run 'Systemd|Connection|LinksInABox' ./launcher/guest || exit 1; \
	done

# Architectures of 32 bits, which are built alone.
arch32:
	@for arch in 386 arm; do echo "GOARCH=$$arch"; CGO_ENABLED=0 GOARCH=$$arch go build -o /dev/null ./cmd/boxrun || exit 1; done

# Every fuzz target for five seconds: go test takes one at a time.
FUZZTIME ?= 5s
fuzz:
	@for package in $$(go list $(UNIT)); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "go test -fuzz $$target $$package"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

# Twice as many tests at once as there are processors, on the smallest machine: a test waits for more than half of its time. A
# test that fails is run once more, and one that fails twice has failed; what passes then is named at the end, as a defect of the
# test or a race in boxrun.
GOTESTSUM = go run gotest.tools/gotestsum@v1.13.0 --format standard-quiet
e2e:
	@mkdir -p bin && rm -f bin/failed-once
	$(GOTESTSUM) --rerun-fails=1 --rerun-fails-max-failures=3 --rerun-fails-run-root-test --rerun-fails-report bin/failed-once \
		--packages ./e2e/... -- -count=1 -timeout 60m -parallel 4
	@! test -s bin/failed-once || { echo 'failed once, and passed when run again:'; cat bin/failed-once; }

# As recursive calls, so that the PATH above finds what deps has just installed, and one after the other on any number of jobs.
test: deps
	$(MAKE) check
	$(MAKE) fuzz
	$(MAKE) e2e

# Four boots of some 20 s and what is done in between, eight minutes in all; no network and no KVM is needed.
test-vm: deps
	@e2e/deps.sh vm
	BOXRUN_VM=1 go test -count=1 -v -timeout 100m ./e2e/vm

# Six minutes, half of them for "boxrun build coldfront", which takes packages from Debian's mirrors and from PyPI; no more the
# first time, when the recipe's other way to an image runs beside it. It keeps what a browser saw.
test-coldfront: deps
	@e2e/deps.sh coldfront
	@mkdir -p bin
	BOXRUN_COLDFRONT=1 go test -count=1 -v -timeout 30m -artifacts -outputdir bin ./e2e/coldfront

# Three hosts, which boot in some ten seconds; no network is needed once their root file system is built.
ROUNDS ?= 1
test-cluster: deps
	BOXRUN_CLUSTER=$(ROUNDS) go test -count=1 -v -timeout 60m ./e2e/cluster

demo: deps
	@$(MAKE) --no-print-directory build bin/probe
	@go run ./e2e/cmd/testhost demo

testhost: build bin/probe
	@go run ./e2e/cmd/testhost $(if $(HOST),-host $(HOST)) shell

bench: build bin/probe
	@go run ./e2e/cmd/testhost -page docs/performance.md bench

soak:
	$(MAKE) arch32
	$(MAKE) fuzz FUZZTIME=5m
	BOXRUN_SOAK=1 go test -count=1 -v -timeout 3h ./e2e/...
	BOXRUN_CLUSTER=20 go test -count=1 -v -timeout 1h ./e2e/cluster -run 'TestCluster$$/database$$/(host_crash|cable_pulled)'

lint:
	go run $(LINT) run

shape:
	@go run ./e2e/cmd/shape

clean:
	rm -rf bin
