package ingress_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestCausesOfPublicErrorsAreLogged: the client of an error of helve.Public has its text, and the log has the errors that wrap it, with the id of
// the request: as an error if the status says that the server has failed, and for debugging if it says that the request was wrong.
func TestCausesOfPublicErrorsAreLogged(t *testing.T) {
	t.Parallel()
	fixture.EachOf(t, []helvetest.Runner{helvetest.Local, helvetest.Socket}, func(t *testing.T, r helvetest.Runner) {
		codes := map[int]error{1: helve.Public(helve.Internal, "sorry"), 2: helve.Public(helve.NotFound, "no such user")}
		lab := &fixture.Lab{OnDo: func(_ context.Context, n int) (int, error) {
			return 0, fmt.Errorf("row %d of the table: %w", n, codes[n])
		}}
		log := fixture.NewLog()
		c := r.Config
		c.Logger = slog.New(log)
		_, url := served(t, c, func() (*helve.App, error) {
			app := helve.NewApp("lab")
			h := helve.Deploy(app, "Lab", func(context.Context) (*fixture.Lab, error) { return lab, nil }, helve.Options{})
			app.Ingress(helve.MethodOf(h, (*fixture.Lab).Do))
			return app, nil
		})
		for n, want := range map[string]struct{ answer, level string }{
			"1": {"500 Internal: sorry", "ERROR"},
			"2": {"404 NotFound: no such user", "DEBUG"},
		} {
			answer := fixture.Request(t, t.Context(), "POST", url, n, "Content-Type", "application/json", "X-Request-Id", "id-"+n)
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if got := fmt.Sprintf("%d %s", answer.StatusCode, body); err != nil || got != want.answer {
				t.Errorf("%q %v", got, err)
			}
			var logged map[string]string
			for _, l := range log.Find("request failed") {
				if l["request_id"] == "id-"+n {
					logged = l
				}
			}
			if logged["level"] != want.level || logged["error"] != "row "+n+" of the table: "+codes[map[string]int{"1": 1, "2": 2}[n]].(*helve.Error).Error() {
				t.Errorf("%s: the log has %v", n, logged)
			}
		}
	})
}
