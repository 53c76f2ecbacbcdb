package helve

import (
	"errors"
	"regexp"
)

// goField is the field of [Options] or of what is in it, by its name in Python, in messages and on the wire, where they differ by more than
// the unit or the case.
var goField = map[string]string{ //nolint:gochecknoglobals // a constant
	"num_replicas": "NumReplicas", "max_ongoing_requests": "MaxOngoingRequests", "max_queued_requests": "MaxQueuedRequests",
	"graceful_shutdown_timeout_s": "GracefulShutdownTimeout", "health_check_period_s": "HealthCheckPeriod",
	"health_check_timeout_s": "HealthCheckTimeout", "construct_timeout_s": "ConstructTimeout",
	"max_constructor_retry_count": "MaxConstructorRetries", "user_config": "UserConfig", "request_router": "Routing",
	"env_vars": "Env", "working_dir": "Dir",
	"unresponsive_after_s": "UnresponsiveAfter", "max_unresponsive_s": "MaxUnresponsive",
	"request_routing_stats_period_s": "RoutingStatsPeriod", "request_routing_stats_timeout_s": "RoutingStatsTimeout",
}

var fieldInError = regexp.MustCompile(`^(deployment "[^"]*": )([a-z_]+)(: )`) //nolint:gochecknoglobals // a constant

// inGo says a mistake in an option with the name that the option has in Go.
func inGo(err error) error {
	text := err.Error()
	m := fieldInError.FindStringSubmatchIndex(text)
	if m == nil {
		return err
	}
	name := goField[text[m[4]:m[5]]]
	if name == "" {
		return err
	}
	return errors.New(text[:m[4]] + name + " (" + text[m[4]:m[5]] + ")" + text[m[5]:])
}
