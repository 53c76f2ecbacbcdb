package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/telemetry"
)

// secretNode is a node whose application has a secret.
type secretNode struct{ fakeNode }

func (secretNode) Applications() map[string]deploy.DeployedApp {
	return map[string]deploy.DeployedApp{"app": {Deployments: map[string]deploy.DeployedDeployment{
		"D": {Config: json.RawMessage(`{"name":"D","ray_actor_options":{"runtime_env":{"env_vars":{"KEY":"hunter2"}}}}`)},
	}}}
}

// TestSecretsAreHidden: no answer, no entry of the audit log and no line of the log has the value of a secret.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	operator := newOperator()
	a := New(Settings{
		Node: secretNode{fakeNode{telemetry.NewEvents(nil)}}, Operator: operator, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Scrub: func(text string) string { return strings.ReplaceAll(text, "hunter2", "***") },
	})
	defer a.Close()
	o := operated{Server: a, operator: operator}
	for _, request := range []string{
		"GET /api/serve/applications/", "GET /api/v1/applications", "GET /api/v1/applications/app", "DELETE /api/v1/applications/app", "GET /api/v1/applications/app/history", "GET /api/v1/audit",
		`PATCH /api/v1/applications/app {"deployments":{"D":{"ray_actor_options":{"runtime_env":{"env_vars":{"KEY":"hunter2"}}}}}}`,
	} {
		if !strings.Contains(request, "serve") {
			operator.fail(&helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: "the key hunter2 is wrong"})
		}
		method, rest, _ := strings.Cut(request, " ")
		path, body, _ := strings.Cut(rest, " ")
		if w := o.send(t, a.unix, "", method+" "+path, body); strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%s: %s", request, w.Body)
		}
		operator.fail(nil)
	}
	operator.fail(&helvetype.OperationError{Next: "try hunter2", Mistakes: []helvetype.Mistake{{Message: "hunter2", Excerpt: "key: hunter2"}}})
	if w := o.send(t, a.unix, "", "PUT /api/serve/applications/", "{}"); w.Code < 400 || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	operator.fail(errors.New("hunter2"))
	if w := o.send(t, a.unix, "", "DELETE /api/v1/applications/app", ""); w.Code != 500 || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "***") {
		t.Errorf("%s", log.String())
	}
}
