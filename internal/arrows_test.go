package internal_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers are the packages of this module from the top down (ARCHITECTURE.md). A package may import packages of lower
// layers only; packages of one layer do not know each other.
var layers = [][]string{
	{"internal/e2e/fixture"}, // imported by tests only
	{"cmd/helve", "examples/hello", "examples/iris", "examples/chat", "examples/web", "examples/search/ranker", "internal/spec/gen"},
	{"cli", "helvetest", "metrics"},
	{""},
	{"internal/rayserve"},
	{"internal/system", "internal/client", "internal/commands"},
	{"internal/graph", "internal/profiling", "internal/simulation", "internal/tracing", "internal/browse"},
	{"internal/node", "internal/guest", "internal/attach"},
	{"internal/admin", "internal/control", "internal/metrics", "internal/tables"},
	{"internal/controller", "internal/rest"},
	{"internal/scaler", "internal/room"},
	{"internal/fleet"},
	{"internal/takeover", "internal/profiler", "internal/restore", "internal/inventory", "internal/details", "internal/claim", "internal/owners"},
	{"internal/deploy", "internal/snapshot", "internal/journal", "internal/health"},
	{"internal/inprocess"},
	{"internal/host", "internal/session", "internal/records", "internal/port", "internal/userlog"},
	{"internal/lending", "internal/roster", "internal/moves"},
	{"internal/serving", "internal/response", "internal/keeper"},
	{"internal/pymethods", "internal/proxy", "internal/exchange", "internal/ledger", "internal/plan", "internal/planner", "internal/rollout", "internal/probe", "internal/userconfig", "internal/worker", "internal/build", "internal/builder", "internal/policy", "internal/spare", "internal/transport", "internal/router", "internal/gate", "internal/ejection", "internal/batch", "internal/models", "internal/shm"},
	{"internal/timed", "internal/updates"},
	{"internal/instance", "internal/otlp", "internal/settings", "internal/wire", "internal/arena", "internal/clients", "internal/cors", "internal/coding", "internal/forwarded", "internal/sse", "internal/access", "internal/output"},
	{"internal/codec", "internal/config", "internal/answer", "internal/store/storetest", "internal/store/disk", "internal/trace", "internal/usage", "internal/series"},
	{"internal/protocol", "internal/placement", "internal/store", "internal/secret", "internal/jsonbody", "internal/shown", "internal/bundle"},
	{"internal/call", "internal/spec", "internal/codec/pickle", "internal/yaml11", "internal/logs", "internal/gcfloor", "internal/listen", "internal/telemetry", "internal/states", "internal/why", "internal/pysource", "internal/devices", "internal/pyenv", "internal/await", "internal/project", "internal/codefile", "internal/pack", "internal/history", "internal/layout", "internal/token", "internal/audit", "internal/agenda", "internal/capture"},
	{"internal/dashboard"},
	{"internal/autoscale/simulate", "web"},
	{"internal/autoscale"},
	{"internal/kernel", "internal/machine", "internal/lines", "internal/pystart", "internal/fetch", "internal/profile", "internal/nearest", "internal/assign"},
	{"helvetype"},
}

// only has the packages whose imports are narrower: beside the standard library and helvetype they import these.
var only = map[string][]string{
	"helvetype":             {},
	"internal/call":         {},
	"internal/spec":         {"internal/autoscale", "internal/nearest"},
	"internal/codec/pickle": {},
	"internal/plan":         {"internal/autoscale", "internal/placement", "internal/secret", "internal/spec"},
	"internal/placement":    {"internal/spec"},
	"internal/ledger":       {"internal/placement"},
	"internal/planner":      {},
	"internal/agenda":       {},
	"internal/autoscale":    {"internal/nearest"},
	"internal/profile":      {},
	"internal/capture":      {"internal/profile"},
	"internal/rollout":      {"internal/spec"},
	"internal/probe":        {"internal/spec"},
	"internal/ejection":     {},
	"internal/health":       {"internal/call", "internal/ejection", "internal/probe", "internal/spec", "internal/telemetry"},
	"internal/userconfig":   {"internal/call"},
	"internal/protocol":     {"internal/call", "internal/spec"},
	"internal/store":        {"internal/spec"},
	"internal/store/disk":   {"internal/store", "go.etcd.io/bbolt"},
	"internal/await":        {},
	"internal/project":      {},
	"internal/history":      {},
	"internal/token":        {},
	"internal/audit":        {},
	"internal/secret":       {"internal/call", "internal/nearest"},
	"internal/fetch":        {},
	"internal/config":       {"internal/autoscale", "internal/nearest", "internal/secret", "internal/spec", "internal/yaml11", "github.com/goccy/go-yaml", "github.com/goccy/go-yaml/ast", "github.com/goccy/go-yaml/lexer", "github.com/goccy/go-yaml/parser", "github.com/goccy/go-yaml/token"},
	"internal/codefile":     {},
	"internal/pack":         {},
	"internal/yaml11":       {},
	"internal/nearest":      {},
	"internal/kernel":       {},
	"internal/logs":         {},
	"internal/gcfloor":      {},
	"internal/listen":       {},
	"internal/worker":       {"internal/kernel", "internal/logs"},
	"internal/keeper":       {"internal/kernel", "internal/worker"},
	"internal/gate":         {"internal/call"},
	"internal/router":       {"internal/call", "internal/telemetry"},
	"internal/batch":        {"internal/call"},
	"internal/models":       {"internal/call"},
	"internal/codec":        {"internal/call", "internal/codec/pickle", "github.com/tinylib/msgp/msgp"},
	"internal/wire":         {"internal/call", "internal/codec"},
	"internal/response":     {"internal/call", "internal/wire"},
	"internal/proxy":        {"internal/access", "internal/call", "internal/clients", "internal/coding", "internal/cors", "internal/forwarded", "internal/listen", "internal/spec", "internal/sse", "internal/telemetry", "internal/timed", "internal/trace"},
	"internal/timed":        {"internal/call", "internal/clients"},
	"internal/clients":      {"internal/call", "internal/listen"},
	"internal/cors":         {"internal/spec"},
	"internal/coding":       {},
	"internal/forwarded":    {},
	"internal/access":       {"internal/logs"},
	"internal/journal":      {"internal/states", "internal/telemetry"},
	"internal/output":       {"internal/logs"},
	"internal/shm":          {"internal/arena", "internal/call", "internal/wire"},
	"internal/sse":          {"internal/call"},
	"internal/arena":        {"internal/kernel", "internal/fetch"},
	"internal/build":        {"internal/kernel", "internal/spec"},
	"internal/telemetry":    {"internal/kernel", "internal/fetch"},
	"internal/trace":        {"internal/call"},
	"internal/otlp":         {"internal/spec", "internal/trace"},
	"internal/states":       {},
	"internal/why":          {},
	"internal/bundle":       {},
	"internal/answer":       {"internal/layout", "internal/shown", "internal/why"},
	"internal/usage":        {"internal/machine", "internal/telemetry"},
	"internal/series":       {"internal/telemetry"},
	"internal/updates":      {"internal/series", "internal/telemetry", "internal/usage"},
	"internal/machine":      {},
	"internal/tables":       {"internal/answer", "internal/details", "internal/layout", "internal/shown"},
	"internal/records":      {"internal/call", "internal/spec", "internal/store"},
	"internal/pysource":     {},
	"internal/devices":      {},
	"internal/pyenv":        {"internal/kernel", "internal/fetch"},
	"internal/jsonbody":     {},
	"internal/shown":        {"internal/logs", "github.com/goccy/go-yaml"},
	"internal/lending":      {"internal/protocol", "internal/serving", "internal/telemetry", "internal/wire"},
	"internal/details":      {"internal/deploy", "internal/secret"},
	"internal/admin":        {"internal/audit", "internal/bundle", "internal/controller", "internal/dashboard", "internal/deploy", "internal/details", "internal/jsonbody", "internal/kernel", "internal/listen", "internal/logs", "internal/nearest", "internal/plan", "internal/profile", "internal/rest", "internal/secret", "internal/series", "internal/sse", "internal/telemetry", "internal/token", "internal/updates", "internal/why"},
	"internal/dashboard":    {"web"},
	"web":                   {},
	"internal/rest":         {"internal/details", "internal/listen", "internal/profile", "internal/token"},
	"internal/metrics":      {"internal/machine", "internal/states", "internal/telemetry", "github.com/prometheus/client_golang/prometheus", "github.com/prometheus/client_golang/prometheus/collectors", "github.com/prometheus/common/expfmt"},
}

// importers has the packages that few import, with those few. The store on disk is made where a node is assembled, and brings bbolt.
var importers = map[string][]string{
	"internal/store/disk": {"internal/node", "cli"},
}

const module = "github.com/helve-serve/helve"

// TestArrows holds the direction of imports.
func TestArrows(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	layer := map[string]int{}
	for i, l := range layers {
		for _, p := range l {
			layer[p] = i
		}
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := local(p.ImportPath)
		if name == "internal" || strings.HasPrefix(name, "internal/e2e/") && name != "internal/e2e/fixture" { // tests only
			continue
		}
		seen++
		at, ok := layer[name]
		if !ok {
			t.Errorf("package %q is in no layer: give it one, here and in ARCHITECTURE.md", name)
		}
		for _, imp := range p.Imports {
			if allowed, narrow := only[name]; narrow && strings.Contains(imp, ".") && local(imp) != "helvetype" && !slices.Contains(allowed, local(imp)) {
				t.Errorf("%s imports %s; it may import the standard library, helvetype and %v", name, imp, allowed)
			}
			if few, narrow := importers[local(imp)]; narrow && !slices.Contains(few, name) {
				t.Errorf("%s imports %s, which is for %v", name, imp, few)
			}
			if below, ours := layer[local(imp)]; ours && strings.HasPrefix(imp, module) && below <= at {
				t.Errorf("%s imports %s, which is not below it", name, local(imp))
			}
		}
	}
	if seen < len(layer) {
		t.Errorf("%d packages were seen, %d are in layers", seen, len(layer))
	}
}

func local(path string) string {
	if path == module {
		return ""
	}
	return strings.TrimPrefix(path, module+"/")
}
