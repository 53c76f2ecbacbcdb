package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/rest"
)

// crew is an application of the test binary whose numbers of replicas its policies decide. They do as the file "mode" of the directory in the variable CREW says.
func crew(name string, together bool) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		scaled := func(p *helvetype.AutoscalingPolicy) helve.Options {
			o := &helvetype.AutoscalingOptions{MaxReplicas: 8, UpscaleDelay: new(time.Duration(0)), DownscaleDelay: new(time.Duration(0))}
			if !together {
				o.Policy = p
			}
			return helve.Options{Autoscaling: o}
		}
		build := func(context.Context) (*Clerk, error) { return &Clerk{}, nil }
		clerk := helve.Deploy(app, "Clerk", build, scaled(helvetype.PolicyWithState(oneMore)))
		helve.Deploy(app, "Bell", build, scaled(helvetype.Policy(two)))
		if together {
			app.ScaleTogether(helvetype.PolicyOfAll(all))
		}
		app.Ingress(helve.MethodOf(clerk, (*Clerk).Serve))
		return app, nil
	}
}

var _, _ = fixture.Register(crew("crew", false)), fixture.Register(crew("crews", true))

// oneMore answers a number more with each answer, up to 4, unless the mode is another.
func oneMore(_ context.Context, v helvetype.AutoscalingView, asked int) (float64, int, error) {
	mode, err := os.ReadFile(filepath.Join(os.Getenv("CREW"), "mode"))
	if err != nil {
		return 0, 0, err
	}
	switch string(mode) {
	case "fails":
		return 0, 0, errors.New("no number")
	case "panics":
		panic("much")
	case "ends":
		os.Exit(3)
	case "ssh": // starts a process that leaves the group of the policy's
		if _, err := os.Stat(filepath.Join(os.Getenv("CREW"), "processes")); err == nil {
			return 4, asked, nil
		}
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return 0, 0, err
		}
		text := fmt.Sprintf("%d %d", os.Getpid(), cmd.Process.Pid)
		if err := os.WriteFile(filepath.Join(os.Getenv("CREW"), "processes.new"), []byte(text), 0o600); err != nil {
			return 0, 0, err
		}
		return 4, asked, os.Rename(filepath.Join(os.Getenv("CREW"), "processes.new"), filepath.Join(os.Getenv("CREW"), "processes"))
	}
	return float64(min(asked+1, 4)), asked + 1, nil
}

func two(context.Context, helvetype.AutoscalingView) (float64, error) { return 2, nil }

func all(_ context.Context, views []helvetype.AutoscalingView, states map[string]int) (map[string]float64, map[string]int, error) {
	replicas, next := map[string]float64{}, map[string]int{}
	for i, v := range views {
		next[v.Deployment] = states[v.Deployment] + 1
		replicas[v.Deployment] = float64(min(next[v.Deployment], i+2))
	}
	return replicas, next, nil
}

// TestPoliciesOfAnExecutable: policies in Go of an executable decide, in a process apart from the node and the workers. The last answer of a policy that fails, or ends its process, holds.
func TestPoliciesOfAnExecutable(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	executable(t, filepath.Join(p.dir, "crew"), "")
	mode := func(m string) { p.write("mode", m) }
	mode("counts")
	file := `
applications:
- {name: crew, import_path: 'exec:crew#crew', route_prefix: /crew, runtime_env: {env_vars: {CREW: ` + p.dir + `}}}
- {name: crews, import_path: 'exec:crew#crews', route_prefix: /crews}
`
	same(t, p.applied(file), map[string]string{"crew": "created 1", "crews": "created 1"})
	is := func(app, deployment string) helvetype.DeploymentStatus {
		return p.node.Status().Applications[app].Deployments[deployment]
	}
	number := func(app, deployment string, want int) {
		t.Helper()
		fixture.Eventually(t, func() string {
			if d := is(app, deployment); d.Ready != want || d.Autoscaling.Health != helvetype.AutoscalingHealthy {
				return fmt.Sprintf("%s has %d replicas, wants %d: %+v", deployment, d.Ready, d.Wanted, d.Autoscaling)
			}
			return ""
		})
	}
	number("crew", "Clerk", 4)
	number("crew", "Bell", 2)
	number("crews", "Bell", 2)
	number("crews", "Clerk", 3)
	if got := is("crew", "Clerk").Autoscaling.Policy; got != "go:files_test.oneMore" {
		t.Errorf("the policy is %s", got)
	}
	if a := is("crews", "Bell").Autoscaling; a.Policy != "go:files_test.all" || a.PolicyScope != "application" {
		t.Errorf("the policy of the application is %+v", a)
	}
	for m, want := range map[string]string{"fails": "no number", "panics": "panic: much", "ends": "its process has ended (exit status 3)"} {
		mode(m)
		fixture.Eventually(t, func() string {
			d := is("crew", "Clerk")
			if d.Wanted != 4 || len(d.Autoscaling.Errors) != 1 || !strings.HasPrefix(d.Autoscaling.Errors[0], want) {
				return fmt.Sprintf("%s: %d wanted, %+v", m, d.Wanted, d.Autoscaling)
			}
			return ""
		})
	}
	mode("counts")
	number("crew", "Clerk", 4) // the state was kept
	if pid := p.words("/crew")[1]; pid == strconv.Itoa(os.Getpid()) {
		t.Error("the replica is in the node")
	}

	a, err := p.apply(strings.Replace(file, "CREW: "+p.dir+"}}", "CREW: "+p.dir+"}}, deployments: [{name: Bell, autoscaling_config: {policy: {policy_function: 'go:files_test.three'}}}]", 1))
	if err == nil {
		err = errors.New(a.Applications["crew"].Error)
	}
	if !strings.Contains(err.Error(), `the deployment "Bell" of the executable has the policy go:files_test.two, and not go:files_test.three`) {
		t.Errorf("a policy that the executable does not have: %v", err)
	}
}

// TestPolicyEndsWithAKilledNode: the process of a policy, and the processes that it has started, end with a node that is killed, although the workers go on. The next node asks in a process of its own,
// with the state of the last answer.
func TestPolicyEndsWithAKilledNode(t *testing.T) {
	t.Parallel()
	s := newService(t)
	executable(t, filepath.Join(s.dir, "crew"), "")
	s.write("mode", "ssh")
	s.write("serve.yaml", "applications:\n- {name: crew, import_path: 'exec:crew#crew', route_prefix: /, runtime_env: {env_vars: {CREW: "+s.dir+"}}}\n")
	s.deploy()
	processes := func() (policy, child int) {
		fixture.Eventually(t, func() string {
			text, err := os.ReadFile(filepath.Join(s.dir, "processes"))
			if _, serr := fmt.Sscan(string(text), &policy, &child); err != nil || serr != nil {
				return "the policy has started no process"
			}
			return ""
		})
		return policy, child
	}
	ready := func() {
		t.Helper()
		fixture.Eventually(t, func() string {
			c, err := rest.Dial(s.priv)
			if err != nil {
				return err.Error()
			}
			defer c.Close()
			all, err := c.Instance(t.Context())
			if err != nil {
				return err.Error()
			}
			running := 0
			for _, r := range all.Applications["crew"].Deployments["Clerk"].Replicas {
				if r.State == helvetype.ReplicaRunning {
					running++
				}
			}
			if running != 4 {
				return fmt.Sprintf("%d replicas run", running)
			}
			return ""
		})
	}
	ready()
	policy, child := processes()
	s.write("mode", "counts")
	before := s.node()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fixture.AwaitExit(t, policy)
	fixture.AwaitExit(t, child)
	fixture.Eventually(t, func() string {
		if now := s.node(); now == 0 || now == before {
			return "no other node answers"
		}
		return ""
	})
	if err := os.Remove(filepath.Join(s.dir, "processes")); err != nil {
		t.Fatal(err)
	}
	s.write("mode", "ssh")
	if next, _ := processes(); next == policy {
		t.Error("the process of the policy is that of before")
	}
	ready()
}
