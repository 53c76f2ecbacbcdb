package host

import (
	"os"
	"path/filepath"

	"github.com/helve-serve/helve/internal/pack"
)

// Packed is a path of a program as it was when the program was deployed. It is an entry of sys_path, or a working_dir or one of the py_modules of a
// runtime_env.
type Packed = pack.Packed

// places gives the function from a path of the program to the one in its place. For example, /srv/shop is packed: workers import shop.py from
// the directory code/DIGEST/shop of the node, also after /srv/shop has changed.
func (h *PythonWorker) places() (func(path string) string, error) {
	if len(h.Python.Packed) == 0 {
		return func(path string) string { return path }, nil
	}
	trees, err := h.App.workers.trees()
	if err != nil {
		return nil, err
	}
	return trees.Places(h.Python.Packed)
}

// dir is the current directory of the program, or the one in its place if it is not there any more: a program may write files there, and finds them again.
func (h *PythonWorker) dir(place func(path string) string) string {
	if _, err := os.Stat(h.Python.Dir); err != nil {
		return place(h.Python.Dir)
	}
	return h.Python.Dir
}

// trees are the packed files of programs as directories.
func (ws *Workers) trees() (*pack.Trees, error) {
	dir, err := ws.Dir()
	if err != nil {
		return nil, err
	}
	return ws.unpacked.Get(filepath.Join(dir, "code"), ws.set.Blob), nil
}

// CollectCode removes the directories of packed files whose digests are not wanted any more.
func (ws *Workers) CollectCode(wanted func(digest string) bool) error {
	if ws.set.Blob == nil {
		return nil
	}
	trees, err := ws.trees()
	if err != nil {
		return err
	}
	return trees.Collect(wanted)
}
