package deploy

import (
	"slices"

	"github.com/helve-serve/helve/internal/plan"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// ChangesOf are the lines about the difference of two revisions.
func ChangesOf(before, after store.Revision) []string {
	same := map[string]bool{}
	for _, d := range after.Graph.Deployments {
		same[d.Name] = sameCode(before, after, d)
	}
	return plan.Lines(versionOf(before), versionOf(after), same, SameFilesOf(before, after))
}

func versionOf(r store.Revision) plan.Version {
	g, layers, err := GraphOf(r)
	if err != nil {
		g = r.Graph
	}
	a := App{Graph: g, Layers: layers, Submitted: r.Submitted}
	return plan.Version{Graph: g, Options: a.Options()}
}

// sameCode says whether two records have the same code of a deployment, as far as records say so.
func sameCode(before, after store.Revision, d spec.Deployment) bool {
	switch {
	case d.Options.Version != "":
		return true // a change of the option is a line of its own
	case d.Language == "python":
		return after.Versions[d.Name] != "" && after.Versions[d.Name] == before.Versions[d.Name] || after.RollbackOf != 0 && keepsSame(before.Python, after.Python)
	case after.Own || before.Own:
		return before.Identity == after.Identity
	case after.Go != nil && before.Go != nil:
		return after.Go.Digest == before.Go.Digest
	}
	return after.Parts[d.Import].Program.Digest == before.Parts[d.Import].Program.Digest && after.Arguments[d.Name] == before.Arguments[d.Name]
}

// keepsSame says that two records keep the same cloudpickle and the same packed directories, as those of a revision and its repetition do.
func keepsSame(before, after *store.Program) bool {
	return before != nil && after != nil && after.Pickle != "" && after.Pickle == before.Pickle && slices.Equal(after.Packed, before.Packed)
}
