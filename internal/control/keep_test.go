package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/pack"
	"github.com/helve-serve/helve/internal/protocol"
)

const kept = `{"app":{"name":"shop","ingress":"D","sys_path":["/srv/shop","/usr/lib/python3","/none"],"own":["/srv/shop","/none"],"deployments":[
	{"name":"D","class":"m:D","options":{"runtime_env":{"working_dir":"/srv/data","py_modules":["/srv/mine","/srv/shop"]}}}]}}`

// TestKeep: a durable node packs the directories of the program and of its environments, each once.
func TestKeep(t *testing.T) {
	t.Parallel()
	deploy := func(n *node) (protocol.Deployed, error) {
		reply, err := control.NewDriver(n, new(control.Owners), new(claim.Claims)).Control(t.Context(), "deploy", json.RawMessage(kept))
		done, _ := reply.(protocol.Deployed)
		return done, err
	}
	t.Run("a node that is not durable", func(t *testing.T) {
		t.Parallel()
		n := &node{}
		if done, err := deploy(n); err != nil || done.Left != nil || n.got.Python.Packed != nil {
			t.Errorf("%+v, %v, packed %v", done, err, n.got.Python.Packed)
		}
	})
	t.Run("all of it", func(t *testing.T) {
		t.Parallel()
		n := &node{keeps: map[string]error{"/srv/shop": nil, "/srv/data": nil, "/srv/mine": nil}}
		done, err := deploy(n)
		want := []host.Packed{{Path: "/srv/data", Digest: "digest of /srv/data"}, {Path: "/srv/mine", Digest: "digest of /srv/mine"}, {Path: "/srv/shop", Digest: "digest of /srv/shop"}}
		if err != nil || done.Left != nil || !cmp.Equal(n.got.Python.Packed, want) {
			t.Errorf("%+v, %v, packed %v", done, err, n.got.Python.Packed)
		}
	})
	t.Run("a part is left", func(t *testing.T) {
		t.Parallel()
		n := &node{keeps: map[string]error{"/srv/shop": nil, "/srv/data": &pack.TooLargeError{}, "/srv/mine": fmt.Errorf("one file: %w", &pack.UnsuitableError{})}}
		done, err := deploy(n)
		var left []string
		for _, l := range done.Left {
			left = append(left, l.Path)
		}
		if want := []string{"/srv/data", "/srv/mine"}; err != nil || !cmp.Equal(left, want) || len(n.got.Python.Packed) != 1 {
			t.Errorf("left %v, %v, packed %v", left, err, n.got.Python.Packed)
		}
	})
	t.Run("files that are excluded", func(t *testing.T) {
		t.Parallel()
		n := &node{keeps: map[string]error{"/srv/shop": nil, "/srv/data": nil}, notice: "it is large"}
		request := `{"app":{"name":"shop","ingress":"A","own":["/srv/shop"],"deployments":[
			{"name":"A","class":"m:A","options":{"runtime_env":{"working_dir":"/srv/data","excludes":["*.bin"]}}},{"name":"B","class":"m:B","options":{}}]}}`
		reply, err := control.NewDriver(n, new(control.Owners), new(claim.Claims)).Control(t.Context(), "deploy", json.RawMessage(request))
		done, _ := reply.(protocol.Deployed)
		if err != nil || !cmp.Equal(done.Notices, []string{"it is large", "it is large"}) || len(n.leave) != 2 {
			t.Fatalf("%+v, %v, left out %v", done, err, n.leave)
		}
		if data := n.leave[0]; len(data) != 1 || !data[0].Match("a.bin", false) {
			t.Errorf("of the working_dir of A: %v", data)
		}
		if shop := n.leave[1]; len(shop) != 2 || shop[1].Match("a.bin", false) { // B may read its files
			t.Errorf("of the program's directory: %v", shop)
		}
	})
	t.Run("the disk is full", func(t *testing.T) {
		t.Parallel()
		full := errors.New("no space left on device")
		n := &node{keeps: map[string]error{"/srv/data": nil, "/srv/mine": nil, "/srv/shop": full}}
		if _, err := deploy(n); !errors.Is(err, full) || !strings.Contains(err.Error(), "/srv/shop") || n.asked != "" {
			t.Errorf("%v, asked %q", err, n.asked)
		}
		if want := "shop: the node cannot keep /srv/shop: no space left on device"; n.unstored != want {
			t.Errorf("noted %q, want %q", n.unstored, want)
		}
	})
	t.Run("a file that may not be read", func(t *testing.T) {
		t.Parallel()
		n := &node{keeps: map[string]error{"/srv/data": fs.ErrPermission, "/srv/mine": nil, "/srv/shop": nil}}
		if done, err := deploy(n); err != nil || len(done.Left) != 1 {
			t.Errorf("%+v, %v", done, err)
		}
	})
}

// TestTakesApplicationOfFile: a program that deploys an application of a file is told.
func TestTakesApplicationOfFile(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{"": "", "prod": `application "shop" was deployed by source prod, and belongs to this program with this deploy; the next deploy from there takes it back`} {
		reply, err := control.NewDriver(&node{source: source}, new(control.Owners), new(claim.Claims)).Control(t.Context(), "deploy", json.RawMessage(kept))
		if done, _ := reply.(protocol.Deployed); err != nil || strings.Join(done.Notices, "\n") != want {
			t.Errorf("of source %q: %+v, %v", source, done, err)
		}
	}
}

// TestLastDeployOfDrivers: an application belongs to the program that has asked last, and the deploy of the other program fails with its name.
func TestLastDeployOfDrivers(t *testing.T) {
	t.Parallel()
	owners, claims := new(control.Owners), new(claim.Claims)
	var second error
	late := &node{keeps: map[string]error{"/srv/data": nil, "/srv/mine": nil, "/srv/shop": nil}}
	n := &node{keeps: late.keeps}
	n.keeping = func() {
		n.keeping = nil
		d := control.NewDriver(late, owners, claims)
		d.Name = "process 7"
		_, second = d.Control(t.Context(), "deploy", json.RawMessage(kept))
	}
	_, first := control.NewDriver(n, owners, claims).Control(t.Context(), "deploy", json.RawMessage(kept))
	if first == nil || !strings.Contains(first.Error(), "another deploy, of process 7, has come before this one was ready") || n.asked != "" {
		t.Errorf("the first: %v, asked %q", first, n.asked)
	}
	if second != nil || late.asked != "deploy shop" {
		t.Errorf("the second: %v, asked %q", second, late.asked)
	}
}
