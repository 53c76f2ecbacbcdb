// Package pystart has the beginning of each Python process that a node starts for an application: where it looks for modules, before anything else is imported.
package pystart

import (
	"encoding/json"
	"strconv"
)

// Path says where a process looks for modules: in the directories of First, then where its own interpreter looks, then in those of Last. The directories of Own come
// before all of these but the library, and those of Site before other directories of packages. For example, a working_dir and the directory of the driver's
// script both have model.py: the one in the working_dir is imported. An asyncio.py there is not.
type Path struct {
	First []string `json:"first"`
	Own   []string `json:"own"`
	Site  []string `json:"site"`
	Last  []string `json:"last"`
}

// Variable is the environment variable that has the path, for the program of Args.
func (p Path) Variable() string {
	b, _ := json.Marshal(p) //nolint:errcheck // texts alone
	return "HELVE_SYS_PATH=" + string(b)
}

// Args are the arguments of an interpreter that runs the function main of a module of the package helve.
//
// The first import of the program comes after the current directory, which Python puts in front of everything else, is out of the way: a user who can write there could replace
// any module of the library. For example, a program is started in a folder of downloads. The directories of the deployment's own come when helve is imported: a helve.py in a
// working_dir is not taken for it.
func Args(module string) []string {
	return []string{"-c", `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import json, os
path = json.loads(os.environ["HELVE_SYS_PATH"])
order = [*(path["first"] or ()), *sys.path, *(path["last"] or ())]
library = [p for p in order if p.startswith(os.path.dirname(os.__file__)) and not p.endswith("-packages")]
if path["site"]:
    order = [*(p for p in order if not p.endswith("-packages")), *path["site"], *order]
sys.path[:] = dict.fromkeys(order)
from helve.` + module + ` import main
if path["own"]:
    sys.path[:] = dict.fromkeys([*library, *path["own"], *order])
main()
`}
}

// ThreadsEnv is the variable with the number of threads for libraries with OpenMP, such as numpy and torch.
const ThreadsEnv = "OMP_NUM_THREADS"

// Threads sets that variable to the number of CPUs that are asked for, as in Ray, so that the replicas of a machine do not each start a thread per core. A value there is, of the user or of the node,
// counts: nil.
func Threads(is string, cpus float64) []string {
	if is != "" {
		return nil
	}
	return []string{ThreadsEnv + "=" + strconv.Itoa(max(int(cpus), 1))}
}
