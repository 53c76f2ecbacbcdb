package host

import (
	"context"
	"slices"

	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/pystart"
	"github.com/helve-serve/helve/internal/spec"
)

// Beside is the environment of a process that runs code of the application beside the replicas of the deployment: an autoscaling policy. Packages are installed if need be.
func (h *PythonWorker) Beside(ctx context.Context) (e policy.Environment, err error) {
	place, err := h.places()
	if err != nil {
		return e, err
	}
	env, err := h.prepare(ctx, unwatched, place)
	if err != nil {
		return e, h.App.Secrets().Hide(err)
	}
	code, release, err := h.code()
	if err != nil {
		return e, err
	}
	e = policy.Environment{Program: env.Interpreter, Args: pystart.Args("_policies"), Dir: env.Dir, Limits: h.Deployment.Options.ProcessLimits(), Code: code.Blob}
	return h.App.workers.beside(e, h.env(), release, h.path(env, place).Variable())
}

// Beside is the environment of a process of the executable that answers for its autoscaling policies.
func (h *GoWorker) Beside(context.Context) (policy.Environment, error) {
	of := h.launchSpec()
	e := policy.Environment{Program: of.program.Path, Args: of.program.Args, Dir: of.program.Dir, Limits: of.limits}
	return h.App.workers.beside(e, of.program.Env, func() {}, append(of.extra, policy.Env+"=1")...)
}

// beside completes the environment of a process. The process and its descendants end with the node.
func (ws *Workers) beside(e policy.Environment, env []string, release func(), more ...string) (policy.Environment, error) {
	env, err := ws.set.Secrets.Environ(spec.WithoutReserved(env))
	if err != nil {
		release()
		return e, ws.set.Secrets.Hide(err)
	}
	family, end := ws.families.Add(func(err error) {
		ws.log.Warn("processes that an autoscaling policy starts may outlive a node that is killed", "error", err)
	})
	e.Env = append(append(append(slices.Clip(env), ws.attachEnv()...), more...), family)
	e.Release = func() { end(); release() }
	return e, nil
}
