package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestBudgets: the numbers of replicas that an update may start and leave missing, of the options that say so.
func TestBudgets(t *testing.T) {
	t.Parallel()
	for options, of := range map[string]map[int][2]int{
		`{}`:                               {1: {1, 0}, 4: {1, 0}, 10: {2, 0}, 100: {20, 0}},
		`{"rolling_update_percentage": 1}`: {1: {1, 0}, 7: {7, 0}},
		`{"max_surge_percent": 25}`:        {1: {1, 0}, 10: {3, 0}},
		`{"max_surge_percent": 0}`:         {1: {0, 1}, 10: {0, 2}}, // stops first, as Ray Serve does
		`{"rollout_config": {"max_surge": 3, "max_unavailable": "25%"}}`:  {1: {3, 0}, 10: {3, 2}},
		`{"rollout_config": {"max_surge": "25%"}}`:                        {1: {1, 0}, 10: {3, 0}},
		`{"rollout_config": {"max_surge": 0}}`:                            {1: {0, 1}, 10: {0, 2}},
		`{"rollout_config": {"max_surge": 0, "max_unavailable": "10%"}}`:  {1: {0, 1}, 30: {0, 3}},
		`{"rollout_config": {"max_surge": "2"}, "max_surge_percent": 50}`: {10: {2, 0}},
	} {
		var o Options
		if err := json.Unmarshal([]byte(options), &o); err != nil {
			t.Fatal(err)
		}
		if errs := o.Validate(); len(errs) > 0 {
			t.Errorf("%s: %v", options, errs)
		}
		e := o.Effective()
		for n, want := range of {
			if got := [2]int{e.Surge(n), e.Unavailable(n)}; got != want {
				t.Errorf("%s of %d replicas: a surge of %d and %d missing, want %v", options, n, got[0], got[1], want)
			}
		}
	}
}

// TestBudgetsAllowProgress: with all options, an update may replace a replica.
func TestBudgetsAllowProgress(t *testing.T) {
	t.Parallel()
	shares := []string{"", "0", "1", "3", "0%", "1%", "34%", "100%"}
	for _, surge := range shares {
		for _, unavailable := range shares {
			for _, percent := range []int{-1, 0, 1, 100} {
				o := Options{Rollout: Rollout{MaxSurge: surge, MaxUnavailable: unavailable}}
				if percent >= 0 {
					o.MaxSurgePercent, o.Sources = percent, map[string]Source{"max_surge_percent": FromFile}
				}
				if len(o.Validate()) > 0 {
					continue
				}
				for n := range 30 {
					if e := o.Effective(); n > 0 && e.Surge(n)+e.Unavailable(n) == 0 {
						t.Errorf("max_surge %q, max_unavailable %q, max_surge_percent %d: no replica of %d can be replaced", surge, unavailable, percent, n)
					}
				}
			}
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	var o Options
	if err := json.Unmarshal([]byte(`{"rollout_config": {"steps": ["25%", 1, "100%", "30%", 400]}}`), &o); err != nil {
		t.Fatal(err)
	}
	if got := o.Effective().Steps(8); !slices.Equal(got, []int{1, 2, 3}) || len(o.Validate()) > 0 {
		t.Errorf("%v, %v", got, o.Validate())
	}
	if b, err := json.Marshal(o); err != nil || string(b) != `{"rollout_config":{"steps":["25%",1,"100%","30%",400]}}` {
		t.Errorf("%s, %v", b, err)
	}
	if e := (Options{}).Effective(); e.Rollout.StepPause != UntilResume || e.Steps(8) != nil || !e.Rollout.AutomaticRollback || e.Rollout.ErrorRate != (ErrorRate{true, 100, time.Minute, 2, 5}) {
		t.Errorf("%+v", e.Rollout)
	}
}

// TestRolloutMistakes compares the texts of mistakes.
func TestRolloutMistakes(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		`{"rollout_config": {"max_surge": 1.5}}`:                             `rollout_config.max_surge: must be an integer or a percentage such as "25%", is 1.5`,
		`{"rollout_config": {"max_surge": "a%"}}`:                            `rollout_config.max_surge: must be an integer or a percentage such as "25%", is "a%"`,
		`{"rollout_config": {"steps": [1, null]}}`:                           `rollout_config.steps: must be an integer or a percentage such as "25%", is null`,
		`{"rollout_config": {"steps": 3}}`:                                   `rollout_config.steps: must be a list of numbers or percentages, is 3`,
		`{"rollout_config": {"max_surge": -1}}`:                              "[rollout_config.max_surge: must not be negative, is -1]",
		`{"rollout_config": {"max_unavailable": "101%"}}`:                    "[rollout_config.max_unavailable: must be at most 100%, is 101%]",
		`{"rollout_config": {"steps": [0]}}`:                                 "[rollout_config.steps: must be more than 0, is 0]",
		`{"rollout_config": {"step_pause_s": -2}}`:                           "[rollout_config.step_pause_s: must be -1 (until resume) or not negative, is -2s]",
		`{"rollout_config": {"step_pause_s": -1}}`:                           "[]",
		`{"rollout_config": {"max_surge": "0%", "max_unavailable": 0}}`:      "[rollout_config.max_surge, rollout_config.max_unavailable: both are 0, so that an update could replace no replica; give at least 1 to one of them]",
		`{"ejection_config": {"max_percent": 101}}`:                          "[ejection_config.max_percent: must be at most 100, is 101]",
		`{"rollout_config": {"error_rate": {"factor": 0.5, "points": 101}}}`: "[rollout_config.error_rate.factor: must be at least 1, is 0.5 rollout_config.error_rate.points: must be at most 100, is 101]",
	} {
		var o Options
		got := ""
		if err := json.Unmarshal([]byte(options), &o); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(o.Validate())
		}
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", options, got, want)
		}
	}
}

// TestApplication: the options of an application have sources, and their changes have kinds of updates.
func TestApplication(t *testing.T) {
	t.Parallel()
	var a Application
	if err := json.Unmarshal([]byte(`{"route_prefix": "/shop", "import_path": "shop:app", "args": {"a": 1}}`), &a); err != nil {
		t.Fatal(err)
	}
	b, err := a.Merge(json.RawMessage(`{"import_path": "shop:next", "history_limit": 3, "args": null}`), FromOverride)
	if err != nil || len(b.Validate()) > 0 {
		t.Fatal(err, b.Validate())
	}
	got := ""
	for _, c := range ApplicationChanges(a.Effective(), b.Effective()) {
		got += fmt.Sprintf("%s %s %s->%s %s->%s; ", c.Option, c.Update, c.Before, c.After, c.FromSource, c.ToSource)
	}
	if want := `import_path new application "shop:app"->"shop:next" file->override; args new application {"a":1}->null file->default; ` +
		`history_limit nothing 10->3 default->override; `; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(a.Effective().Values()) != len(ApplicationRows()) || len(Options{}.Effective().Values()) != len(DeploymentRows()) {
		t.Error("an option has no value")
	}
	if _, err := a.Merge(json.RawMessage(`{"route": 1}`), FromFile); err == nil {
		t.Error("an unknown option is read")
	}
}
