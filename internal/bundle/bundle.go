// Package bundle writes a support bundle: the state and the recent past of a node, as one file for an engineer who cannot ask the node.
//
// A bundle is a tar.gz of the answers of the node's admin interface. So an operator with the role read could ask for all of it, and secrets are
// hidden as there; beside that every known value of a secret is taken out of each file. For example, a method that prints a password has "***" in logs.json.
package bundle

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Settings are the arguments of [Write].
type Settings struct {
	// Get answers a request for a path of the admin interface. It may be called while an earlier call has not returned.
	Get func(ctx context.Context, path string) (body []byte, err error)
	// Scrub takes the values of secrets out of a text.
	Scrub func(text string) string
	// Wait bounds each request: a node that hangs answers a part of them.
	Wait time.Duration
	// Version is that of the node's program.
	Version string
}

const (
	// requestsMax is the number of requests whose calls are in a bundle.
	requestsMax = 100
	// mode is that of files in a bundle.
	mode = 0o600
)

// file is a file of a bundle with the path of its answer.
type file struct{ name, path string }

// files are the files of a node, in the order of their requests: the stacks come first, because a node that hangs has them too.
var files = []file{ //nolint:gochecknoglobals // a constant
	{"goroutines.txt", "/debug/pprof/goroutine?debug=2"},
	{"why.json", "/api/v1/why"},
	{"calls.json", "/api/v1/calls"},
	{"events.json", "/api/v1/events"},
	{"logs.json", "/api/v1/logs?tail=10000"},
	{"node.json", "/"},
	{"status.json", "/api/v1/status"},
	{"instance.json", "/api/v1/instance"},
	{"metrics.txt", "/metrics"},
	{"audit.json", "/api/v1/audit"},
	{"requests.json", "/api/v1/requests"},
}

// ofApplication are the files of each application.
var ofApplication = []file{ //nolint:gochecknoglobals // a constant
	{"config.json", "/api/v1/applications/%s/config"},
	{"submitted.json", "/api/v1/applications/%s/submitted"},
	{"history.json", "/api/v1/applications/%s/history"},
	{"why.json", "/api/v1/why/%s"},
}

// writer writes the files of one bundle.
type writer struct {
	set    Settings
	tar    *tar.Writer
	at     time.Time
	failed strings.Builder
}

// Write writes a bundle. A part that the node does not give is named in the file missing.txt; the error is of w.
func Write(ctx context.Context, w io.Writer, s Settings) error {
	zip := gzip.NewWriter(w)
	b := &writer{set: s, tar: tar.NewWriter(zip), at: time.Now()}
	if err := b.all(ctx); err != nil {
		return err
	}
	if err := b.tar.Close(); err != nil {
		return err
	}
	return zip.Close()
}

func (b *writer) all(ctx context.Context) error {
	if err := b.add("versions.txt", b.versions()); err != nil {
		return err
	}
	kept := map[string][]byte{}
	for _, f := range files {
		body, err := b.file(ctx, f.name, f.path)
		if err != nil {
			return err
		}
		kept[f.name] = body
	}
	var about struct {
		Applications []string `json:"applications"`
	}
	json.Unmarshal(kept["node.json"], &about) //nolint:errcheck // missing.txt says that there is no answer
	for _, app := range about.Applications {
		for _, f := range ofApplication {
			path := fmt.Sprintf(f.path, url.PathEscape(app))
			if _, err := b.file(ctx, "applications/"+url.PathEscape(app)+"/"+f.name, path); err != nil {
				return err
			}
		}
	}
	var list struct {
		Requests []struct {
			ID string `json:"request_id"`
		} `json:"requests"`
	}
	json.Unmarshal(kept["requests.json"], &list) //nolint:errcheck // as above
	for i, r := range list.Requests[:min(len(list.Requests), requestsMax)] {
		// An id may be the text of a client, so the name of the file is a number.
		if _, err := b.file(ctx, fmt.Sprintf("requests/%03d.json", i+1), "/api/v1/requests/"+url.PathEscape(r.ID)); err != nil {
			return err
		}
	}
	return b.add("missing.txt", cmp.Or(b.failed.String(), "nothing is missing\n"))
}

// file asks for a path and writes the answer.
func (b *writer) file(ctx context.Context, name, path string) ([]byte, error) {
	type answer struct {
		body []byte
		err  error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.set.Wait, fmt.Errorf("no answer within %s", b.set.Wait))
	defer cancel()
	done := make(chan answer, 1)
	go func() { // a node that hangs does not heed ctx
		body, err := b.set.Get(ctx, path)
		done <- answer{body, err}
	}()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		a.err = context.Cause(ctx)
	}
	if a.err != nil {
		fmt.Fprintf(&b.failed, "%s (%s): %s\n", name, path, b.set.Scrub(a.err.Error()))
		return nil, nil
	}
	return a.body, b.add(name, string(a.body))
}

func (b *writer) add(name, text string) error {
	text = b.set.Scrub(text)
	if err := b.tar.WriteHeader(&tar.Header{Name: "helve-dump/" + name, Mode: mode, Size: int64(len(text)), ModTime: b.at}); err != nil {
		return err
	}
	_, err := io.WriteString(b.tar, text)
	return err
}

// versions are the versions of the program and of its modules. Environment variables are not there: they may be secrets.
func (b *writer) versions() string {
	var t strings.Builder
	fmt.Fprintf(&t, "helve %s\n%s %s/%s\nmade at %s\n", b.set.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, b.at.UTC().Format(time.RFC3339))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			fmt.Fprintf(&t, "%s %s\n", d.Path, d.Version)
		}
	}
	return t.String()
}
