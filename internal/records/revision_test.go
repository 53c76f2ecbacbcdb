package records_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/records"
)

// TestNoRevision: the text says which revisions there are, also between those that were let go.
func TestNoRevision(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]records.NoRevisionError{
		`application "shop" has no revision 3`:                                    {"shop", 3, nil},
		`application "shop" has no revision 3; it has 1`:                          {"shop", 3, []int{1}},
		`application "shop" has no revision 9; it has 1 to 3`:                     {"shop", 9, []int{1, 2, 3}},
		`application "shop" has no revision 3 any more; it has 1, 6 to 8, 11, 14`: {"shop", 3, []int{1, 6, 7, 8, 11, 14}},
		`application "shop" has no revision 15; it has 1 to 2, 14`:                {"shop", 15, []int{1, 2, 14}},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
