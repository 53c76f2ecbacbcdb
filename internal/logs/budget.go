package logs

import (
	"cmp"
	"errors"
	"fmt"
)

// Budgets are the bytes that the lines of a [Ring] may take: of all writers, and of those of one deployment. One replica has an eighth of the latter. The zero Budgets are 8 MiB, and 2 MiB, so
// that a replica has 256 KiB; a deployment without a budget of its own has a quarter of all.
type Budgets struct{ Node, Deployment int64 }

const (
	ringTotal      = 8 << 20 // bytes of all writers
	groupPart      = 4       // of all, for the writers of one deployment
	writerPart     = 8       // of a deployment, for one writer
	leastTotal     = 1 << 20
	leastGroup     = 64 << 10
	mostTotal      = 1 << 36
	nodeField      = "LogMemory"
	deploymentName = "LogMemoryPerDeployment"
)

// Check returns the mistakes, each behind the name of its field in helve.Config.
func (b Budgets) Check() error {
	var errs []error
	if b.Node != 0 && (b.Node < leastTotal || b.Node > mostTotal) {
		errs = append(errs, fmt.Errorf("%s: must be from %d to %d bytes, is %d", nodeField, leastTotal, int64(mostTotal), b.Node))
	} else if all := cmp.Or(b.Node, ringTotal); b.Deployment != 0 && (b.Deployment < leastGroup || b.Deployment > all) {
		errs = append(errs, fmt.Errorf("%s: must be from %d to %d bytes, which all deployments have together, is %d", deploymentName, leastGroup, all, b.Deployment))
	}
	return errors.Join(errs...)
}

// NewRing makes an empty ring with the usual budgets.
func NewRing() *Ring { return NewRingOf(Budgets{}) }

// NewRingOf makes an empty ring.
func NewRingOf(b Budgets) *Ring {
	all := cmp.Or(b.Node, ringTotal)
	ofOne := cmp.Or(b.Deployment, all/groupPart)
	return &Ring{writers: map[Writer]*written{}, groups: map[Writer]*group{}, total: int(all), group: int(ofOne), each: int(ofOne / writerPart)}
}
