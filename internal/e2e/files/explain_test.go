package files_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// cold is a module whose replica fails its readiness check while a file is there.
const cold = `
import os
from helve import serve

@serve.deployment(readiness_check_period_s=0.05)
class Shelf:
    def check_ready(self):
        if os.path.exists("empty"):
            raise LookupError("the shelf is empty")

    def __call__(self, request):
        return "sold"

app = Shelf.bind()
`

// TestExplain: a node explains an application, a deployment, a replica and a revision by its events, and says which of them there is not.
func TestExplain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("cold.py", cold)
	same(t, p.applied("applications: [{name: cold, route_prefix: /, import_path: cold:app}]"), map[string]string{"cold": "created 1"})
	p.write("empty", "")
	shelf := func() helvetype.DeploymentStatus { return p.node.Status().Applications["cold"].Deployments["Shelf"] }
	await(t, "an unhealthy deployment", func() bool { return shelf().Status == helvetype.DeploymentUnhealthy })
	if answer := p.get("/"); answer != "sold" {
		t.Errorf("the last replica answers %q", answer)
	}
	for name, c := range map[string]struct {
		of       helvetype.Object
		revision int
		says     []string // in the sentence
		reasons  []string // in the timeline
		next     string
	}{
		"the application": {helvetype.Object{App: "cold"}, 0, []string{"application cold is UNHEALTHY", "the shelf is empty", "It began", "with replica cold/Shelf/"}, []string{"kept", "replica_not_ready"}, "the next readiness check"},
		"the deployment":  {helvetype.Object{App: "cold", Deployment: "Shelf"}, 0, []string{"1 of 1 replica gets calls", "kept, the last replica", "the shelf is empty"}, []string{"kept", "replica_not_ready"}, "the next readiness check"},
		"the replica":     {helvetype.Object{App: "cold", Deployment: "Shelf", Replica: shelf().Replicas[0].ID}, 0, []string{"is kept, the last replica: it gets calls although it is not ready", "the shelf is empty"}, []string{"kept"}, "the next readiness check"},
		"the revision":    {helvetype.Object{App: "cold"}, 1, []string{"revision 1 of application cold is running", "by ann"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := p.Explain(t.Context(), c.of, c.revision)
			if err != nil || !strings.Contains(e.Next, c.next) {
				t.Errorf("next %q, %v", e.Next, err)
			}
			for _, part := range c.says {
				if !strings.Contains(e.Sentence, part) {
					t.Errorf("%q has no %q", e.Sentence, part)
				}
			}
			reasons := " "
			for _, ev := range e.Timeline {
				reasons += ev.Reason + " "
			}
			for _, reason := range c.reasons {
				if !strings.Contains(reasons, " "+reason+" ") {
					t.Errorf("the events are%s: there is no %s", reasons, reason)
				}
			}
		})
	}
	for name, c := range map[string]struct {
		of       helvetype.Object
		revision int
		code     helvetype.Code
		says     string
	}{
		"no name":                {helvetype.Object{}, 0, helvetype.CodeInvalidArgument, "the name of an application is missing"},
		"an unknown application": {helvetype.Object{App: "warm"}, 0, helvetype.CodeNotFound, "warm"},
		"an unknown deployment":  {helvetype.Object{App: "cold", Deployment: "Rack"}, 0, helvetype.CodeNotFound, "Rack"},
		"an unknown replica":     {helvetype.Object{App: "cold", Deployment: "Shelf", Replica: "Shelf#999"}, 0, helvetype.CodeNotFound, "Shelf#999"},
		"an unknown revision":    {helvetype.Object{App: "cold"}, 7, helvetype.CodeNotFound, "no revision 7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := p.Explain(t.Context(), c.of, c.revision)
			if e, ok := errors.AsType[*helvetype.OperationError](err); !ok || e.Code != c.code || !strings.Contains(e.Message, c.says) || e.Next == "" {
				t.Errorf("%v", err)
			}
		})
	}
}
