package spec

import "testing"

// A deployment in Python has no row of an option that Go alone has.
func TestValuesInALanguage(t *testing.T) {
	t.Parallel()
	has := func(language, option string) bool {
		for _, v := range (Options{}).Effective().ValuesIn(language) {
			if v.Option == option {
				return true
			}
		}
		return false
	}
	if has("python", "isolation") || !has("go", "isolation") || !has("python", "num_replicas") || !has("python", "runtime_env.working_dir") {
		t.Error("the rows are not those of the language")
	}
}
