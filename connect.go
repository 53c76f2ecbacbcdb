package helve

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/system"
)

// Connect attaches this program to a node that another process runs, such as "helve start" or a program with [Config].Admin. The address is the
// state directory of the node, the directory of [System.Address], or "unix:" and the path of a socket in that. "" is the node that the variable
// HELVE_NODE names, else the only durable node of this user ("helve start"), else the only other one that runs.
//
//	sys, err := helve.Connect(ctx, "/var/lib/helve")
//	ranker, err := helve.HandleOf[*Ranker](sys, "shop", "Ranker") // or an interface
//	answer, err := helve.MethodOf(ranker, (*Ranker).Rank).Call(ctx, query)
//
// Handles, streams and the operations of the system work as in the process of the node; values are encoded on their way. [System.Deploy] takes an
// [Executable], or a Build of this program: the node then runs a copy of this program's executable in workers, which must call [WorkerMain] before
// Connect, and the application outlives the program. The calls of one program are an origin for [Options].MaxQueuedRequests.
//
// A node that keeps a state directory may be started again. Calls that are under way then fail with the reason [MayHaveRun], and [Idempotent]
// calls run again. Later calls wait for the next node, for 10 s at most, and fail with the reason [ReplicaUnavailable] then.
//
// [System.Close] ends the connection, and nothing at the node. Operations that only the process of the node can carry out, such as [System.Serve],
// return an error.
func Connect(ctx context.Context, address string) (*System, error) {
	s, err := system.Config{Version: Version, Public: publicError}.Connect(ctx, address)
	if err != nil {
		return nil, publicError(err)
	}
	return &System{s}, nil
}

// Address is the address at which other programs of this user attach to the node: the argument of [Connect], and the value of HELVE_NODE. "" if
// they cannot, because [Config].Admin is not set.
func (s *System) Address() string { return s.s.Address() }

// ReadStatus is [System.Status] with the error of a node of another process that does not answer.
func (s *System) ReadStatus(ctx context.Context) (helvetype.Status, error) {
	status, err := s.s.ReadStatus(ctx)
	return status, publicError(err)
}
