package cli

import (
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
)

// TestEveryLimitOfHTTPHasAFlag: each field of helve.HTTPLimits is set by its flag, on the command line and from the environment of a
// driver's node, and an error about it names the flag.
func TestEveryLimitOfHTTPHasAFlag(t *testing.T) {
	fields := reflect.TypeFor[helve.HTTPLimits]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		name := httpFlags[field.Name]
		value := "7777777"
		if strings.HasSuffix(field.Name, "Timeout") {
			value = "7777777ns"
		}
		set := func(how string, do func(c *cobra.Command, l *httpLimits) error) {
			c, l := &cobra.Command{}, &httpLimits{}
			l.flags(c)
			if err := do(c, l); err != nil {
				t.Errorf("%s by %s: %v", field.Name, how, err)
			}
			limits := reflect.ValueOf(l.limits())
			for j := range limits.NumField() {
				if got := limits.Field(j).Int(); (got == 7777777) != (i == j) || i != j && got != 0 {
					t.Errorf("%s by %s: %s is %d", field.Name, how, fields.Field(j).Name, got)
				}
			}
		}
		set("flag", func(c *cobra.Command, _ *httpLimits) error { return c.Flags().Set(name, value) })
		set("environment", func(c *cobra.Command, _ *httpLimits) error {
			return fromEnvironment(c, only("HELVE_"+strings.ReplaceAll(strings.ToUpper(name), "-", "_"), value))
		})
	}
	r := &run{}
	limits := helve.Config{HTTPLimits: helve.HTTPLimits{StallTimeout: -1}}
	_, err := limits.Run(t.Context(), nil)
	if err == nil || !strings.Contains(r.flagged(err).Error(), "--http-stall-timeout: must not be negative") {
		t.Errorf("%v", err)
	}
}

// TestAddress: the URL that is printed is the application's.
func TestAddress(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{"/": "http://h:1", "/text": "http://h:1/text", "/a b/é": "http://h:1/a%20b/%C3%A9"} {
		if got := address("http://h:1", prefix); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
}
