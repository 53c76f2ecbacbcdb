# make test | bench | lint | build | fuzz | simulate
PYTHON ?= python3
VENV   := .venv
VENVPY := $(VENV)/bin/python
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build test test-go test-python bench lint fuzz simulate clean

build:
	go build -trimpath -o bin/ ./cmd/helve ./examples/hello

# The virtual environment has the helve package in place (editable), with the binary of this checkout in it.
$(VENVPY): python/pyproject.toml python/setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENVPY) -m pip install -q -e './python[test]'
	touch $(VENVPY)

python/src/helve/_bin/helve: $(VENVPY) FORCE
	go build -trimpath -ldflags='-s -w' -o $@ ./cmd/helve

FORCE:

test: test-go test-python

test-go: python/src/helve/_bin/helve
	go vet ./...
	HELVE_PYTHON=$(abspath $(VENVPY)) go test -race -shuffle=on ./...
	cd bench && go vet ./... && go test ./...

test-python: python/src/helve/_bin/helve
	$(VENVPY) -m pytest -q python/tests

bench: python/src/helve/_bin/helve
	cd bench && HELVE_PYTHON=$(abspath $(VENVPY)) go run . $(ARGS)

lint:
	go run $(GOLANGCI_LINT) run ./...
	cd bench && go vet ./...

# Every decoder, and what peers may ask, a minute each: make fuzz FUZZTIME=1h for the long run.
FUZZTIME ?= 60s
fuzz:
	go test -run '^$$' -fuzz FuzzDecode    -fuzztime $(FUZZTIME) ./internal/codec
	go test -run '^$$' -fuzz FuzzError     -fuzztime $(FUZZTIME) ./internal/codec
	go test -run '^$$' -fuzz FuzzPickle    -fuzztime $(FUZZTIME) ./internal/codec/pickle
	go test -run '^$$' -fuzz FuzzCallMeta  -fuzztime $(FUZZTIME) ./internal/wire
	go test -run '^$$' -fuzz FuzzConn      -fuzztime $(FUZZTIME) ./internal/wire
	go test -run '^$$' -fuzz FuzzLink      -fuzztime $(FUZZTIME) -fuzzminimizetime 1x ./internal/wire
	go test -run '^$$' -fuzz FuzzNodes     -fuzztime $(FUZZTIME) -fuzzminimizetime 1x ./internal/transport
	go test -run '^$$' -fuzz FuzzRequest   -fuzztime $(FUZZTIME) ./internal/proxy
	go test -run '^$$' -fuzz FuzzSnapshot  -fuzztime $(FUZZTIME) ./internal/node
	go test -run '^$$' -fuzz FuzzTable     -fuzztime $(FUZZTIME) -fuzzminimizetime 100x ./internal/arena

# A node with crashes at random: make simulate SEEDS=100000 for the long run. HELVE_SIMULATION_SEED=n runs one seed again.
SEEDS ?= 2000
simulate:
	HELVE_SIMULATION_SEEDS=$(SEEDS) go test -race -count=1 -timeout 1h -run '^TestSimulation$$' ./internal/node

clean:
	rm -rf bin $(VENV) python/src/helve/_bin python/build
