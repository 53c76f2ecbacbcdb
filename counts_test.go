package helve_test

import (
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// TestCounts: calls are counted wherever they run, and stay counted when their replica is gone.
func TestCounts(t *testing.T) {
	t.Parallel()
	for app, build := range map[string]helve.Build{"go": buildGo, "python": buildPython} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			runners := []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Process}
			if app == "python" {
				runners = runners[:1]
			}
			helvetest.Run(t, build, func(t *testing.T, s *helve.System) {
				h, err := helve.HandleOf[Service](s, app, "Subject")
				if err != nil {
					t.Fatal(err)
				}
				for range 7 {
					if _, err := helve.MethodOf(h, Service.Echo).Call(t.Context(), "x"); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					if _, err := helve.ActionOf(h, Service.Fail).Remote(t.Context(), "x").Result(t.Context()); err == nil {
						t.Fatal("no error")
					}
				}
				want := helve.Calls{Total: 10, Errors: 3}
				check := func(when string) {
					t.Helper()
					for { // the slot of a call that has answered may be about to be given back
						got := s.Status().Applications[app].Deployments["Subject"].Calls
						if got.Running > 0 && t.Context().Err() == nil {
							continue
						}
						if got != want {
							t.Errorf("%s: %+v, want %+v", when, got, want)
						}
						return
					}
				}
				check("after the calls")
				if err := s.Deploy(t.Context(), build); err != nil {
					t.Fatal(err)
				}
				check("after another deploy")
			}, runners...)
		})
	}
}
