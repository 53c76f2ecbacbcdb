package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
)

// TestEveryOptionOfHTTPHasAFlag: the fields of helve.HTTPOptions are set by their flags and by variables, and an error about one names the flag. The form
// of the access log is the value of --access-log.
func TestEveryOptionOfHTTPHasAFlag(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\r\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	for field, c := range map[string]struct {
		value string
		want  helve.HTTPOptions
	}{
		"RequestTimeout":  {"3s", helve.HTTPOptions{RequestTimeout: 3 * time.Second}},
		"DrainDelay":      {"4s", helve.HTTPOptions{DrainDelay: 4 * time.Second}},
		"RootPath":        {"/serve", helve.HTTPOptions{RootPath: "/serve"}},
		"TrustForwarded":  {"10.0.0.0/8,unix", helve.HTTPOptions{TrustForwarded: []string{"10.0.0.0/8", "unix"}}},
		"TLS.Certificate": {"c", helve.HTTPOptions{TLS: helve.TLS{Certificate: "c"}}},
		"TLS.Key":         {"k", helve.HTTPOptions{TLS: helve.TLS{Key: "k"}}},
		"TLS.KeyPassword": {password, helve.HTTPOptions{TLS: helve.TLS{KeyPassword: "secret"}}},
		"TLS.ClientCA":    {"a", helve.HTTPOptions{TLS: helve.TLS{ClientCA: "a"}}},
	} {
		flag := httpOptionFlags[field]
		for how, set := range map[string]func(*cobra.Command, *httpOptions) error{
			"flag": func(c2 *cobra.Command, _ *httpOptions) error { return c2.Flags().Set(flag, c.value) },
			"environment": func(c2 *cobra.Command, _ *httpOptions) error {
				return fromEnvironment(c2, only("HELVE_"+strings.ReplaceAll(strings.ToUpper(flag), "-", "_"), c.value))
			},
		} {
			command, o := &cobra.Command{}, &httpOptions{}
			o.flags(command)
			err := set(command, o)
			got, optionsErr := o.options()
			if err != nil || optionsErr != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s by %s: %+v %v %v", field, how, got, err, optionsErr)
			}
		}
	}
	fields := reflect.TypeFor[helve.HTTPOptions]().NumField() - 2 + reflect.TypeFor[helve.TLS]().NumField() // without TLS itself and AccessLogFormat
	if len(httpOptionFlags) != fields {
		t.Errorf("%d flags for %d fields", len(httpOptionFlags), fields)
	}
	r := &run{}
	_, err := helve.Config{HTTPOptions: helve.HTTPOptions{DrainDelay: -1}}.Run(t.Context(), nil)
	if err == nil || !strings.Contains(r.flagged(err).Error(), "--drain-delay: must not be negative") {
		t.Errorf("%v", err)
	}
	if _, err := (&httpOptions{passwordFile: password + "-"}).options(); err == nil || !strings.Contains(err.Error(), "--tls-key-password-file: open ") {
		t.Errorf("%v", err)
	}
}
