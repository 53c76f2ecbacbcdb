package deploy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/spec"
)

// Autoscaled is a deployment that scales by itself, for [App.ScalingPolicy].
type Autoscaled struct {
	Deployment string
	Host       host.Host
	Config     json.RawMessage  // the autoscaling_config
	Policy     autoscale.Policy // of Config
}

// policyEntry begins the names of policies among the pickles of an application's code, as the Python package writes them.
const policyEntry = "autoscaling_policy/"

// ScalingPolicy is the policy that says how many replicas a deployment needs: that of the application if there is one, else its own. false: the number follows the load. all are the deployments
// that scale by themselves, and python are hosts of Python deployments, one of which lends its environment to a policy in Python of a deployment in Go.
func (a *App) ScalingPolicy(of Autoscaled, all []string, python []host.Host) (s policy.Source, ok bool) {
	p := of.Policy
	s = policy.Source{App: a.Graph.App, Deployment: of.Deployment}
	if together, ok := a.TogetherPolicy(); ok {
		p, s.Together = together, all
	}
	if p.Function == "" {
		return s, false
	}
	s.Limit = p.Timeout
	s.Of = policy.Described{Function: p.Function, Kwargs: p.Kwargs}
	if strings.HasPrefix(p.Function, helvetype.GoPolicy) {
		if s.Go = a.Scaling[s.PolicyName()]; s.Go != nil {
			s.Version = fmt.Sprintf("go %d %s", a.Number, p.Function)
		} else {
			a.inExecutable(&s, of.Host)
		}
		return s, true
	}
	in, ok := of.Host.(*host.PythonWorker)
	if ok {
		s.Of.Entry = policyEntry + of.Deployment
	}
	if !ok || s.Together != nil {
		s.Of.Entry, in = "", nil
		if len(python) > 0 {
			in, _ = python[0].(*host.PythonWorker)
		}
	}
	if in == nil {
		s.Beside = noEnvironment("it is in Python, and the application has no deployment in Python, whose environment it would have: write the policy in Go")
	} else {
		s.Beside, s.Key = in.Beside, besideKey(in)
	}
	s.Version = digestOf(s.Key, s.Of, p.Timeout, codeVersion(of.Config), s.Together)
	return s, true
}

// inExecutable has a policy in Go run in a process of the executable that has the deployment. The name of the policy there is that of the deployment there: for example, an application in Python
// has the deployment Ranker of an executable as "second".
func (a *App) inExecutable(s *policy.Source, h host.Host) {
	g, ok := h.(*host.GoWorker)
	switch {
	case !ok || a.Program == nil && g.Built == nil:
		s.Beside = noEnvironment("it is a function of a program, and the application has no deployment of an executable that could run it: write it in Python, or have the program run the node")
	case s.Together != nil && g.Built != nil && !a.asBuilt(s.Together, g.Deployment.Spec.Import):
		s.Beside = noEnvironment("it is a function of an executable that does not have all the deployments that scale by themselves, under these names: write the policy of the application in Python")
	default:
		s.Beside, s.Key = g.Beside, "go "+g.Key()
		if s.Together == nil {
			s.Of.Entry = cmp.Or(g.Deployment.Spec.Class, s.Deployment)
		}
	}
	s.Version = digestOf(s.Key, s.Of, s.Limit, s.Together)
}

// asBuilt says that one executable has all the deployments, under their own names. A file has an application of an executable in this way, for example.
func (a *App) asBuilt(deployments []string, from string) bool {
	return !slices.ContainsFunc(a.Graph.Deployments, func(d spec.Deployment) bool {
		return slices.Contains(deployments, d.Name) && (d.Import != from || d.Class != d.Name)
	})
}

func noEnvironment(why string) func(context.Context) (policy.Environment, error) {
	return func(context.Context) (policy.Environment, error) {
		return policy.Environment{}, &policy.Error{Text: why}
	}
}

// ScalingPolicies are the custom autoscaling policies of the application, each once. hosts are of an application that never starts: nothing is kept in it.
func (a *App) ScalingPolicies(hosts *host.App, set Settings) (all []policy.Source) {
	if !slices.ContainsFunc(a.Graph.Deployments, func(d spec.Deployment) bool { return d.Options.Effective().Autoscaled() }) {
		return nil
	}
	var names []string
	var python []host.Host
	var scaled []Autoscaled
	for _, s := range a.Graph.Deployments {
		d, placed := a.Place(s, hosts, set)
		python = append(python, placed.Host)
		if !d.Options.Autoscaled() {
			continue
		}
		config, err := autoscale.Parse(d.Options.AutoscalingConfig)
		if err != nil { // the deploy has checked it
			continue
		}
		names = append(names, s.Name)
		scaled = append(scaled, Autoscaled{s.Name, placed.Host, d.Options.AutoscalingConfig, config.Policy})
	}
	slices.Sort(names)
	python = PythonHosts(python)
	for _, of := range scaled {
		if s, ok := a.ScalingPolicy(of, names, python); ok && (s.Together == nil || len(all) == 0) {
			all = append(all, s)
		}
	}
	return all
}

// TogetherPolicy is the policy of the application for all its deployments; false if it has none.
func (a *App) TogetherPolicy() (p autoscale.Policy, ok bool) {
	raw := a.Options().AutoscaleConfig
	if len(raw) == 0 || string(raw) == "null" {
		raw = a.Graph.Together
	}
	if len(raw) == 0 {
		return p, false
	}
	p, err := autoscale.ParsePolicy(raw)
	return p, err == nil && p.Function != ""
}

// codeVersion is the version of a policy that a program has sent by value.
func codeVersion(config json.RawMessage) string {
	var c struct {
		Policy struct {
			Version string `json:"_version"`
		} `json:"policy"`
	}
	json.Unmarshal(config, &c) //nolint:errcheck // the deploy has checked it
	return c.Policy.Version
}

// besideKey identifies the environment and the code that [host.PythonWorker.Beside] gives. Two deployments of an application with the same runtime_env share a process.
func besideKey(h *host.PythonWorker) string {
	o, py := h.Deployment.Options, h.Python
	digest := py.Digest
	if digest == "" {
		sum := sha256.Sum256(py.Blob)
		digest = hex.EncodeToString(sum[:])
	}
	return digestOf(digest, py.Code[h.Deployment.Name].Digest, py.Interpreter, py.SysPath, py.Last, py.Dir, py.Env, py.Packed, h.Env, o.Env, o.Pip, o.Dir, o.PyModules, o.ProcessLimits())
}

func digestOf(parts ...any) string {
	b, _ := json.Marshal(parts) //nolint:errcheck // texts and numbers
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// PythonHosts are the Python hosts among others, in the order of their deployments.
func PythonHosts(all []host.Host) []host.Host {
	some := slices.DeleteFunc(slices.Clone(all), func(h host.Host) bool { _, ok := h.(*host.PythonWorker); return !ok })
	slices.SortFunc(some, func(a, b host.Host) int {
		return strings.Compare(a.(*host.PythonWorker).Deployment.Name, b.(*host.PythonWorker).Deployment.Name) //nolint:forcetypeassert // see above
	})
	return some
}
