package secret

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
)

var errNoJSON = errors.New("is not JSON")

// leastScrubbed is the least number of bytes of a value that is taken out of texts. A shorter one, such as "INFO", is a word of other lines too.
const leastScrubbed = 6

// mostScrubbed is the number of values that are kept. When a variable changes from node to node there are as many as names; the bound is for a file
// that changes each second.
const mostScrubbed = 10_000

// Values are the values that were put in the place of placeholders. A nil Values keeps none.
type Values struct {
	mu       sync.RWMutex
	values   map[string]bool
	replacer *strings.Replacer // nil while there is no value
}

func (v *Values) add(value string) {
	if v == nil || len(value) < leastScrubbed {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.values[value] || len(v.values) >= mostScrubbed {
		return
	}
	if v.values == nil {
		v.values = map[string]bool{}
	}
	v.values[value] = true
	// A value is also scrubbed in the forms in which a traceback or a line of JSON has it, with \n for the end of a line, and a text of several lines in each of them.
	all := map[string]bool{}
	for value := range v.values {
		for _, form := range forms(value) {
			all[form] = true
		}
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= leastScrubbed {
				for _, form := range forms(line) {
					all[form] = true
				}
			}
		}
	}
	longest := make([]string, 0, len(all))
	for value := range all {
		longest = append(longest, value)
	}
	slices.SortFunc(longest, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	pairs := make([]string, 0, 2*len(longest))
	for _, value := range longest {
		pairs = append(pairs, value, Hidden)
	}
	v.replacer = strings.NewReplacer(pairs...)
}

// escapes are those of texts in quotes: of Python where the text has no quote of their kind, or is in double quotes or single ones, and of JSON as Go writes it. For
// example, the value li'ne of several lines is 'li\'ne\n...' in a traceback.
//
//nolint:gochecknoglobals // constants
var escapes = []*strings.Replacer{
	strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`),
	strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, `"`, `\"`),
	strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, `'`, `\'`),
	strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, `"`, `\"`, "<", `\u003c`, ">", `\u003e`, "&", `\u0026`),
}

// forms are a value as it is, and in quotes.
func forms(value string) []string {
	all := []string{value}
	for _, e := range escapes {
		all = append(all, e.Replace(value))
	}
	return all
}

// isSecretName finds the variables of an environment whose values are secrets by their names, also where a file has the value without !secret. A name such as
// PARTITION_KEY is none: its value may be a word of other lines.
var isSecretName = regexp.MustCompile(`(?i)(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(?:API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|ACCOUNT)_?KEY)(?:$|_)`) //nolint:gochecknoglobals // a constant

// named adds the value of a variable, NAME=VALUE, that is a secret by its name. The path of a file is none.
func (v *Values) named(variable string) {
	if name, value, _ := strings.Cut(variable, "="); v != nil && isSecretName.MatchString(name) && !strings.HasPrefix(value, "/") && !Has(value) {
		v.add(value)
	}
}

// Scrub is a text with "***" in the place of each value of six bytes or more.
func (v *Values) Scrub(text string) string {
	if v == nil {
		return text
	}
	v.mu.RLock()
	replacer := v.replacer
	v.mu.RUnlock()
	if replacer == nil {
		return text
	}
	return replacer.Replace(text)
}
