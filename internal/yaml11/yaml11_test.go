package yaml11

import (
	"strings"
	"testing"
)

// TestRead has examples of each kind, as PyYAML reads them.
func TestRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		kind Kind
		form string
	}{
		"":        {Null, ""},
		"~":       {Null, ""},
		"Null":    {Null, ""},
		"yes":     {Boolean, "true"},
		"OFF":     {Boolean, "false"},
		"y":       {Text, "y"},
		"010":     {Number, "8"},
		"0x_1F":   {Number, "31"},
		"0b11":    {Number, "3"},
		"1_000":   {Number, "1000"},
		"-0":      {Number, "0"},
		"+7":      {Number, "7"},
		"1:30":    {Number, "90"},
		"-1:30":   {Number, "-90"},
		"1:30.5":  {Number, "90.5"},
		"-1:30.5": {Number, "-90.5"},
		"1e3":     {Text, "1e3"},
		"1.0e+3":  {Number, "1000.0"},
		"2.":      {Number, "2.0"},
		"089":     {Text, "089"},
		"1.2.3":   {Text, "1.2.3"},
	} {
		if kind, form, err := Read(in); kind != want.kind || form != want.form || err != nil {
			t.Errorf("%q: %d %q %v, want %d %q", in, kind, form, err, want.kind, want.form)
		}
	}
	for _, in := range []string{".inf", "-.INF", ".nan", "0b_", "1" + strings.Repeat("0", longestNumber)} {
		if kind, form, err := Read(in); err == nil {
			t.Errorf("%q: %d %q without an error", in, kind, form)
		}
	}
}
