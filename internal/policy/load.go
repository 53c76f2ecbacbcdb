package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// LoadTime is the time that a policy may take to be loaded when its application is deployed: its module is imported, and its class constructed.
const LoadTime = 10 * time.Minute

// LoadError says why a policy cannot be loaded.
type LoadError struct {
	// Deployment has the policy; "" for the policy of an application.
	Deployment string
	// Function is its import path, or its name in Go.
	Function string
	Err      error
}

// Option is the option that names the policy.
func (e *LoadError) Option() string {
	if e.Deployment == "" {
		return "autoscaling_policy.policy_function"
	}
	return "autoscaling_config.policy.policy_function"
}

func (e *LoadError) Error() string {
	of := ""
	if e.Deployment != "" {
		of = fmt.Sprintf("deployment %q: ", e.Deployment)
	}
	text := fmt.Sprintf("%s%s: the policy %s cannot be loaded: %v", of, strings.TrimSuffix(e.Option(), ".policy_function"), e.Function, e.Err)
	if failed, ok := errors.AsType[*Error](e.Err); ok && strings.Contains(failed.Traceback, "File \"") { // else it has no frame of the user's code
		text += "\n\n" + strings.TrimSpace(failed.Traceback)
	}
	return text
}

// Unwrap gives the error a reason: the caller has named a policy that is none.
func (e *LoadError) Unwrap() []error {
	return []error{e.Err, call.NewError(helvetype.ReasonBadInput, e.Err.Error())}
}

// Load loads policies as the process of their application would, in processes that end with it. A policy of this program is loaded already. The error is a [LoadError] for the first one that cannot be loaded. An
// environment that cannot be prepared is no mistake of a policy: the starts of the replicas say what is wrong with it.
//
// For example, the policy of a deployment is "scaling:by_queue", and the module scaling has no such function: the deploy is refused, and no replica has changed.
func Load(ctx context.Context, all []Source, s SetSettings) error {
	ctx, cancel := context.WithTimeoutCause(ctx, LoadTime, &Error{Text: fmt.Sprintf("its module was not imported within %s", LoadTime)})
	defer cancel()
	processes := map[string]*Process{}
	for _, of := range all {
		if of.Go != nil {
			continue
		}
		p := processes[of.Key]
		if p == nil {
			p = NewProcess(s.process(&of))
			processes[of.Key] = p
			defer p.Close()
		}
		err := s.scrubbed(p.load(ctx, of.PolicyName(), of.Of))
		if err == nil {
			continue
		}
		if _, mistake := errors.AsType[*Error](err); mistake {
			return &LoadError{Deployment: of.PolicyName(), Function: of.Of.Function, Err: err}
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// load loads a policy. The error is an [Error] if it cannot be loaded.
func (p *Process) load(ctx context.Context, name string, of Described) error {
	r, err := p.run(ctx)
	if err != nil {
		return err
	}
	a, err := r.ask(ctx, question{Policy: name, Of: of, Load: true})
	if err == nil && a.Error != "" {
		err = &Error{Text: a.Error, Traceback: a.Traceback}
	}
	return err
}
