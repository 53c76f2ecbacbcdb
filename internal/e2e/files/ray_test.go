package files_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstalledRay: applications of modules that import a ray that is installed beside Helve are built with Helve's, whether the import path names an application or a
// function that makes one.
func TestInstalledRay(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if err := os.MkdirAll(filepath.Join(p.dir, "ray"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.write("ray/__init__.py", "")
	p.write("ray/serve.py", "class Application:\n    pass\n\n\nclass Deployment:\n    def bind(self):\n        return Application()\n\n\ndef deployment(of):\n    return Deployment()\n")
	p.write("shop.py", "from ray import serve\n\n\n@serve.deployment\nclass Shop:\n    def __call__(self, request) -> str:\n        return serve.__name__\n\n\ndef build():\n    return Shop.bind()\n\n\napp = build()\n")
	if _, err := p.apply("applications:\n- {name: shop, import_path: 'shop:app', route_prefix: /shop}\n- {name: built, import_path: 'shop:build', route_prefix: /built}\n"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/shop", "/built"} {
		if got := p.get(path); !strings.Contains(got, "helve.serve") {
			t.Errorf("%s: %s", path, got)
		}
	}
}
