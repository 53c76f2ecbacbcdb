package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// share is a number of replicas, or a part of all of them: "2" or "25%". JSON has it as 2 or "25%", and reads "2" too.
type share struct{ zero bool } // whether 0 and "0%" are allowed

func shareOfReplicas() share { return share{zero: true} }

// positive refuses 0.
func (share) positive() share { return share{} }

const shareForm = `an integer or a percentage such as "25%"`

func (share) parse(raw json.RawMessage, _ string) (string, error) {
	var v any
	if json.Unmarshal(raw, &v) == nil {
		switch v := v.(type) {
		case float64:
			if v == math.Trunc(v) && math.Abs(v) < 1e15 {
				return strconv.FormatInt(int64(v), 10), nil
			}
		case string:
			if _, _, err := amount(v); err == nil {
				return v, nil
			}
		}
	}
	return "", fmt.Errorf("must be %s, is %s", shareForm, shown(raw))
}

func (share) format(v string) any {
	if n, percent, err := amount(v); err == nil && !percent {
		return n
	}
	return v
}

func (k share) check(v string, wrong func(string, ...any)) {
	switch n, percent, err := amount(v); {
	case err != nil:
		wrong("must be %s, is %q", shareForm, v)
	case n < 0:
		wrong("must not be negative, is %s", v)
	case n == 0 && !k.zero:
		wrong("must be more than 0, is %s", v)
	case percent && n > 100:
		wrong("must be at most 100%%, is %s", v)
	case n > MaxReplicas:
		wrong("must be at most %d, is %s", MaxReplicas, v)
	}
}

func (k share) accepts() string {
	if k.zero {
		return "integer, or percent such as `\"25%\"`"
	}
	return "integer or percent, more than 0"
}

func (k share) python() string {
	if k.zero {
		return "_limits.share"
	}
	return "partial(_limits.share, positive=True)"
}

// amount reads "2" or "25%".
func amount(s string) (n int, percent bool, err error) {
	digits, percent := strings.CutSuffix(s, "%")
	n, err = strconv.Atoi(digits)
	if err == nil && strconv.Itoa(n) != digits { // "+1", "01"
		err = errors.New("is no plain number")
	}
	return n, percent, err
}

// part is the number of replicas that a share of n is: a percentage rounds up or down. A share that Validate refuses is none.
func part(s string, n int, up bool) int {
	v, percent, err := amount(s)
	switch {
	case err != nil || v < 0:
		return 0
	case !percent:
		return v
	case up:
		return (v*n + 99) / 100
	default:
		return v * n / 100
	}
}

// shares is a list of shares. A layer replaces it as a whole.
type shares struct{ of share }

func shareList() shares { return shares{} }

func (k shares) parse(raw json.RawMessage, _ []string) ([]string, error) {
	list, err := parse[[]json.RawMessage](raw, "a list of numbers or percentages")
	if err != nil {
		return nil, err
	}
	read := make([]string, len(list))
	for i, item := range list {
		if read[i], err = k.of.parse(item, ""); err != nil {
			return nil, err
		}
	}
	return read, nil
}

func (k shares) format(v []string) any {
	if v == nil {
		return nil
	}
	all := make([]any, len(v))
	for i, s := range v {
		all[i] = k.of.format(s)
	}
	return all
}

func (k shares) check(v []string, wrong func(string, ...any)) {
	for _, s := range v {
		k.of.check(s, wrong)
	}
}

func (shares) accepts() string { return "list of integers and percents" }
func (shares) python() string  { return "_limits.shares" }

// Surge is the number of replicas that an update of n replicas may start beside them: max_surge, rounded up, else max_surge_percent if it is set,
// else one wave of rolling_update_percentage. For example, ten replicas with a rolling_update_percentage of 0.2 have a surge of 2.
func (e Effective) Surge(n int) int {
	switch {
	case e.Rollout.MaxSurge != "":
		return part(e.Rollout.MaxSurge, n, true)
	case e.isSet("max_surge_percent"):
		return (e.MaxSurgePercent*n + 99) / 100
	}
	return e.wave(n)
}

// Unavailable is the number of n replicas that an update may leave missing: max_unavailable, rounded down. It is 0 if it is not set, as long as
// there is a surge. An update without a surge has to stop replicas first: it may stop at least one, and one wave if max_unavailable is not set.
func (e Effective) Unavailable(n int) int {
	least := 0
	if e.Surge(n) == 0 {
		least = 1
		if e.Rollout.MaxUnavailable == "" {
			least = e.wave(n)
		}
	}
	return max(least, part(e.Rollout.MaxUnavailable, n, false))
}

// wave is the number of replicas that Ray Serve replaces at a time.
func (e Effective) wave(n int) int { return max(1, int(e.RollingUpdatePercentage*float64(n))) }

// Steps are the numbers of new replicas at which an update of n replicas stops for a while. They rise, are less than n, and may be none. For example,
// the steps [1, "25%", "100%"] of eight replicas are 1 and 2.
func (e Effective) Steps(n int) []int {
	var steps []int
	for _, s := range e.Rollout.Steps {
		if v := part(s, n, true); v > 0 && v < n {
			steps = append(steps, v)
		}
	}
	slices.Sort(steps)
	return slices.Compact(steps)
}

// isSet says whether an option has another source than its default.
func (e Effective) isSet(path string) bool {
	from, ok := e.Sources[path]
	return ok && from != FromDefault
}

// UntilResume is the step_pause_s of an update that waits at each step until an operator resumes it.
const UntilResume = -time.Second

// checkTogether lists the mistakes of options that contradict each other.
func (o Options) checkTogether() (errs []error) {
	surge, _, err := amount(o.Rollout.MaxSurge)
	unavailable, _, err2 := amount(o.Rollout.MaxUnavailable)
	if err == nil && err2 == nil && surge == 0 && unavailable == 0 {
		errs = append(errs, &Mistake{options: []label{labelAt("rollout_config.max_surge"), labelAt("rollout_config.max_unavailable")},
			text: "both are 0, so that an update could replace no replica; give at least 1 to one of them"})
	}
	if err := o.checkFromResources(); err != nil {
		errs = append(errs, err)
	}
	return errs
}
