package control

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

// An application is built and packed, and the build of another one of the file takes longer than a blob stays that no record names.
func TestPackedFilesStayWhileOthersAreBuilt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blobs := store.NewMemoryBlobs()
		target := records.NewTarget(store.NewMemory(), blobs, slog.New(slog.DiscardHandler))
		target.Durable = true
		digest, _, err := blobs.Put(t.Context(), strings.NewReader("the packed files"))
		if err != nil {
			t.Fatal(err)
		}
		ap := &apply{o: &Operator{set: Settings{Target: target}}}
		built := &deploy.App{Python: host.Python{Packed: []host.Packed{{Path: "/srv/a", Digest: digest}}}}
		ap.pin(built)
		time.Sleep(3 * store.BlobAge)
		if err := target.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if in, err := blobs.Open(digest); err != nil {
			t.Errorf("during the request: %v", err)
		} else {
			in.Close()
		}
		ap.unpin()
		ap.pin(built) // of a build that another request has overtaken
		if err := target.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := blobs.Open(digest); !errors.Is(err, store.ErrNoBlob) {
			t.Errorf("after the request: %v", err)
		}
	})
}
