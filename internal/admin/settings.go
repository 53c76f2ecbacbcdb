package admin

import (
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/dashboard"
)

func (a *Server) settings(c *ask) {
	a.get(c, func(o Operator) (any, error) {
		s, err := o.AllSettings(c.r.Context())
		return a.withOwn(s), err
	})
}

// withOwn completes settings by those of the admin interface.
func (a *Server) withOwn(s helvetype.Settings) helvetype.Settings {
	s.Admin = helvetype.AdminSettings{URLs: append([]string{}, a.addresses()...), TLS: a.set.TLS != nil, Tokens: a.set.Tokens != nil}
	if len(s.Admin.URLs) > 0 && a.set.Dashboard != nil {
		s.Admin.Dashboard = dashboard.Reachable(s.Admin.URLs[0]) + dashboard.Root
	}
	s.Node.StartedAt = a.started
	return s
}

// setSettings changes settings. The audit log has the names of the fields alone, because http_options may have a secret.
func (a *Server) setSettings(c *ask) {
	var change helvetype.SettingsChange
	if !a.decode(c, &change) {
		return
	}
	var fields []string
	if len(change.TargetCapacity) > 0 {
		fields = append(fields, "target_capacity "+string(change.TargetCapacity))
	}
	if len(change.HTTPOptions) > 0 {
		fields = append(fields, "http_options")
	}
	a.change(c, "node", strings.Join(fields, ", "), "", func(o Operator) (any, error) {
		out, err := o.ChangeSettings(c.r.Context(), c.by, change)
		out.Settings = a.withOwn(out.Settings)
		return out, err
	})
}

func (a *Server) planSettings(c *ask) {
	var change helvetype.SettingsChange
	if a.decode(c, &change) {
		a.get(c, func(o Operator) (any, error) { return o.PlanSettings(c.r.Context(), change) })
	}
}
