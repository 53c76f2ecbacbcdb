package mixed_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/codec"
)

// snakes is a program that gives the names on its input in snake case, as Python has them.
const snakes = `import json, sys
from helve._names import snake_case
json.dump([snake_case(n) for n in json.load(sys.stdin)], sys.stdout)`

// TestNames: both languages give a name the same form, whatever its letters are, and that form is a form of itself.
func TestNames(t *testing.T) {
	t.Parallel()
	names := []string{"SayHi", "GetURL", "HTTPServer", "UserID2", "X", "already_snake", "aB_C", "V2Model", "IDs", "Straße", "ÄrgerÜber", ""}
	letters := []string{"a", "b", "A", "B", "URL", "Id", "_", "7", "é", "É", "ß", "Ж", "ж"}
	for range 3000 {
		var b strings.Builder
		for range 1 + rand.IntN(9) {
			b.WriteString(letters[rand.IntN(len(letters))])
		}
		names = append(names, b.String())
	}
	in, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	python := exec.CommandContext(t.Context(), os.Getenv("HELVE_PYTHON"), "-c", snakes)
	python.Stdin = bytes.NewReader(in)
	out, err := python.Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []string
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		ours := codec.SnakeCase(name)
		if ours != theirs[i] {
			t.Errorf("%q is %q in Go and %q in Python", name, ours, theirs[i])
		}
		if codec.SnakeCase(ours) != ours {
			t.Errorf("%q becomes %q and then %q", name, ours, codec.SnakeCase(ours))
		}
		if found, ok := codec.MatchName(theirs[i], []string{"other", name}); !ok || found != name && codec.SnakeCase(found) != ours {
			t.Errorf("%q is not found as %q: %q", name, theirs[i], found)
		}
	}
}
