package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
)

// format is the version of the records' JSON. It rises with every change, also with a new field: a program that does not
// know a field would drop it when it writes the record again, so it refuses to read the record. Records of older formats are read: the fields
// that they do not have are zero. Records of each format are in disk/testdata.
const format = 3

// Formats names the formats that a program reads whose newest one is n: "1", or "1 to 3".
func Formats(n int) string {
	if n == 1 {
		return "1"
	}
	return fmt.Sprintf("1 to %d", n)
}

// Record is one of the types of records of this package.
type Record interface {
	// check finds a field with a value that no record may have, and gives the field's JSON name and the problem. Both are ""
	// if the record is in order.
	check() (field, problem string)
}

// App is the target state of an application.
type App struct {
	Revision uint64 `json:"revision"`         // the number of the revision that should run
	Before   uint64 `json:"before,omitempty"` // the revision that ran before that; 0 for none
	Paused   bool   `json:"paused,omitempty"` // the rollout to Revision is paused
	Step     int    `json:"step,omitempty"`   // of the rollout to Revision, from 1; 0 for none
	// Since is when the rollout was paused, or when its step was reached and began to wait; zero while it does neither.
	Since time.Time `json:"since,omitzero"`
	// Watch is the watch of Revision after its rollout; nil for none. It is over at its time.
	Watch *Watch `json:"watch,omitempty"`
	// Restarting has the ids of the replicas that a rolling restart is to replace, on the node that wrote the record.
	Restarting []string `json:"restarting,omitempty"`
	// Overrides has options that replace those of the revision, by deployment: see [Override].
	Overrides map[string]json.RawMessage `json:"overrides,omitempty"`
	// Attempt is the deploy that has led to Revision, as long as it has not ended; nil after that.
	Attempt *Attempt `json:"attempt,omitempty"`
	// Outcomes say what became of the revisions that are in the store, by their numbers. A revision of an older program has none.
	Outcomes map[uint64]Outcome `json:"outcomes,omitempty"`
}

// Watch is the time after a rollout in which calls of the new revision that fail lead back to the revision before.
type Watch struct {
	From  uint64    `json:"from"` // the revision before
	Until time.Time `json:"until"`
	// Old has the calls by which the revision before is judged, by deployment.
	Old map[string]helvetype.CallWindow `json:"old,omitempty"`
}

// Outcome says what became of a revision. It is beside the revision, because a revision is never changed.
type Outcome struct {
	State  OutcomeState `json:"state"`
	Reason string       `json:"reason,omitempty"` // why it failed, or which revision came before it ran
	// Deployment is the one that was given up, of a first deploy that has failed; "" if none was.
	Deployment string    `json:"deployment,omitempty"`
	At         time.Time `json:"at,omitzero"`
}

// OutcomeState is what became of a revision.
type OutcomeState string

// The outcomes. A revision that ran may still fail: an automatic rollback takes it back when too many of its calls fail.
const (
	Ran        OutcomeState = "ran"
	Failed     OutcomeState = "failed"
	Superseded OutcomeState = "superseded"
)

// Attempt is a deploy whose revision has not run yet. It says what was there before, so that the deploy can be ended by another node than the one
// that began it. For example, a node is killed while hello changes from revision 3 to 4: the next one starts 3, changes to 4 again, and puts
// the records of 3 back if 4 does not start.
type Attempt struct {
	// Scales are the numbers of replicas before, of the deployments whose number the deploy has set; null for a deployment without one.
	Scales map[string]*Scale `json:"scales,omitempty"`
	// Kept are the numbers of the deployments whose number the deploy has left to the autoscaler of its revision.
	Kept map[string]*Scale `json:"kept,omitempty"`
	// Overrides are those of the revision before.
	Overrides map[string]json.RawMessage `json:"overrides,omitempty"`
}

// Revision is one version of an application. It is never changed.
type Revision struct {
	Graph spec.Graph `json:"graph,omitzero"` // with the options of all deployments
	// GraphDigest is set in place of Graph if the graph is too large for a record, as with large user configs. The graph is then, as JSON,
	// the record's blob with this digest (see [Blobs]).
	GraphDigest string `json:"graph_digest,omitempty"`
	// Code has the digests of the code that the revision runs: of executables, packed directories, pickles and arguments.
	Code []string `json:"code,omitempty"`
	// Identity is that of graph and code: a process of a revision serves another one with the same identity.
	Identity string `json:"identity,omitempty"`
	// Submitted is the configuration as it was submitted.
	Submitted json.RawMessage `json:"submitted,omitempty"`
	By        string          `json:"by,omitempty"`      // the person or program that submitted it
	From      string          `json:"from,omitempty"`    // where: a host and a directory, or a file
	Source    string          `json:"source,omitempty"`  // of the apply that submitted it; "" for a program
	Message   string          `json:"message,omitempty"` // a note of its author
	At        time.Time       `json:"at"`
	Go        *Program        `json:"go,omitempty"`     // the process of the deployments in Go; nil for the node's own
	Python    *Program        `json:"python,omitempty"` // the processes of the deployments in Python
	// Own says that the deployments are code of the node's own executable: a node starts them only if it has that code.
	Own bool `json:"own,omitempty"`
	// Parts are the builds that have some of the deployments in Go, by the import paths of these. Arguments are the digests of the blobs with the
	// arguments that these deployments were bound with, by their names.
	Parts     map[string]Part   `json:"parts,omitempty"`
	Arguments map[string]string `json:"arguments,omitempty"`
	// Versions name the code of deployments in Python, and Archives have the digests of the archives in their environments, by their names.
	Versions map[string]string   `json:"versions,omitempty"`
	Archives map[string][]string `json:"archives,omitempty"`
	// Before is the revision that ran when this one was deployed; 0 for none.
	Before uint64 `json:"before,omitempty"`
	// RollbackOf is the revision that this one repeats; 0 for none.
	RollbackOf uint64 `json:"rollback_of,omitempty"`
	// Sources say where options come from that are not from code, by deployment and path, without those that are overridden.
	Sources map[string]map[string]spec.Source `json:"sources,omitempty"`
	// Overrides are the options that an operator has put over those of code and file, by deployment; "" has those of the application. The options of Graph
	// have them. Below are the options under them, of the deployments that have overrides.
	Overrides map[string]json.RawMessage `json:"overrides,omitempty"`
	Below     map[string]json.RawMessage `json:"below,omitempty"`
	// Keep is the number of revisions that stay in the store when this one runs; 0 for 10.
	Keep int `json:"keep,omitempty"`
	// ExternalScaler says that another program sets the numbers of replicas: a deploy leaves those that it has set.
	ExternalScaler bool `json:"external_scaler,omitempty"`
}

// Program says how a process of an application is started. What it runs is in the blobs, so that it can be started again when the files that it
// was deployed from have changed or are gone.
type Program struct {
	Path    string            `json:"path"`             // of the executable, or of the Python interpreter
	Digest  string            `json:"digest,omitempty"` // of the blob of the executable; "" for an interpreter
	Args    []string          `json:"args,omitempty"`
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	SysPath []string          `json:"sys_path,omitempty"` // of Python, in front of the interpreter's own
	Last    []string          `json:"last,omitempty"`     // of Python, behind the interpreter's own
	Pickle  string            `json:"pickle,omitempty"`   // digest of the blob of cloudpickles with the code of the deployments in Python
	Packed  []Packed          `json:"packed,omitempty"`   // directories of SysPath that the blobs have
}

// Packed is a directory of modules as it was when the application was deployed.
type Packed struct {
	Path    string `json:"path"`
	Digest  string `json:"digest"`            // of the blob
	Content string `json:"content,omitempty"` // digest of the files without the name of the directory
}

// Part is a build that has some deployments of an application.
type Part struct {
	Graph   spec.Graph `json:"graph"` // the application in the build
	Program Program    `json:"program"`
}

// Scale is the number of replicas that a deployment should have.
type Scale struct {
	Replicas int       `json:"replicas"`
	By       string    `json:"by"`     // deploy, autoscaler, or a person
	Reason   string    `json:"reason"` // why, to be shown
	At       time.Time `json:"at"`
	// State is the memory of the autoscaler of the deployment: its windows, delays and last decisions. nil without.
	State json.RawMessage `json:"state,omitempty"`
}

// ByAutoscaler is the author of numbers of replicas that follow the load. The target capacity is in them: it bounds what an autoscaler decides.
const ByAutoscaler = "autoscaler"

// Settings hold for all nodes.
type Settings struct {
	HTTP           HTTPSettings    `json:"http"`
	Logging        LoggingSettings `json:"logging"`
	Tracing        TracingSettings `json:"tracing"`
	TargetCapacity *float64        `json:"target_capacity,omitempty"` // percent of all numbers of replicas; nil for 100
	// Submitted are the fields of the file that set them, as it has them: an object with http_options, logging_config and so on.
	Submitted json.RawMessage `json:"submitted,omitempty"`
	By        string          `json:"by,omitempty"` // the person or program that submitted them
}

// HTTPSettings are for the proxies.
type HTTPSettings struct {
	Host     string `json:"host,omitempty"`
	Port     int    `json:"port,omitempty"`
	RootPath string `json:"root_path,omitempty"`
}

// LoggingSettings are for the logs of nodes and workers.
type LoggingSettings struct {
	Level    string `json:"level,omitempty"`    // DEBUG, INFO, WARNING or ERROR
	Encoding string `json:"encoding,omitempty"` // TEXT or JSON
}

// TracingSettings are for the traces of calls.
type TracingSettings struct {
	Endpoint string  `json:"endpoint,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // of the calls that are traced, 0 to 1
}

// Node is a node that lives. Its record has a lease.
type Node struct {
	Incarnation string            `json:"incarnation"` // of the process: another one with each start
	Address     string            `json:"address"`
	State       NodeState         `json:"state"`
	CPUs        float64           `json:"cpus,omitempty"`
	Memory      int64             `json:"memory,omitempty"` // bytes
	Labels      map[string]string `json:"labels,omitempty"`
}

// NodeState is the state of a node.
type NodeState string

// The states of a node. A node that drains takes no new replicas, and its replicas move to other nodes.
const (
	NodeReady    NodeState = "READY"
	NodeDraining NodeState = "DRAINING"
)

// Assign says that a node should have a replica. The controller writes it.
type Assign struct {
	App        string `json:"app"`
	Deployment string `json:"deployment"`
	Revision   uint64 `json:"revision"`
	Version    string `json:"version"` // of the deployment: a replica of the same version need not be replaced
}

// Replica is the state of a replica. Its node writes it. The number of its calls, its models and other facts that change
// with traffic have no place in it.
type Replica struct {
	App        string                 `json:"app"`
	Deployment string                 `json:"deployment"`
	Revision   uint64                 `json:"revision"`
	Version    string                 `json:"version"`
	State      helvetype.ReplicaState `json:"state"`
	Reason     string                 `json:"reason,omitempty"` // of the last transition
	Message    string                 `json:"message,omitempty"`
	Since      time.Time              `json:"since"` // of the last transition
}

func (a App) check() (field, problem string) {
	if a.Revision == 0 {
		return "revision", "is missing"
	}
	return "", ""
}

func (r Revision) check() (field, problem string) {
	if r.GraphDigest == "" {
		if err := errors.Join(r.Graph.Validate()...); err != nil {
			return "graph", err.Error()
		}
	} else if r.Graph.App != "" || len(r.Graph.Deployments) > 0 {
		return "graph_digest", "is there beside a graph"
	}
	for _, p := range []*Program{r.Go, r.Python} {
		if p != nil && p.Path == "" {
			return "path", "is missing"
		}
	}
	return "", ""
}

// Blobs has the digests of the blobs that the application needs beside those of its revisions.
func (a App) Blobs() (digests []string) {
	all := []map[string]json.RawMessage{a.Overrides}
	if a.Attempt != nil {
		all = append(all, a.Attempt.Overrides)
	}
	for _, overrides := range all {
		for _, raw := range overrides {
			var o Override
			if json.Unmarshal(raw, &o) == nil && o.Digest != "" {
				digests = append(digests, o.Digest)
			}
		}
	}
	return digests
}

// Override has the options of one deployment that were set in place. For example, Reconfigure has given D another user config than the one that the
// revision was deployed with: {"user_config": {"threshold": 0.7}}.
type Override struct {
	UserConfig json.RawMessage `json:"user_config,omitempty"`
	// Trial is a user config that no replica has taken yet, because none runs. The first that is ready decides.
	Trial json.RawMessage `json:"trial,omitempty"`
	// Digest is set in place of the others if they are too large for a record: they are the blob with this digest.
	Digest string `json:"digest,omitempty"`
}

// Blobs has the digests of the blobs that the revision needs.
func (r Revision) Blobs() (digests []string) {
	if r.GraphDigest != "" {
		digests = append(digests, r.GraphDigest)
	}
	return append(digests, r.Code...)
}

func (s Scale) check() (field, problem string) {
	if s.Replicas < 0 {
		return "replicas", "is negative"
	}
	return "", ""
}

func (s Settings) check() (field, problem string) {
	switch {
	case s.HTTP.Port < 0 || s.HTTP.Port > 65535:
		return "http.port", "is not a port"
	case !(s.Tracing.Ratio >= 0 && s.Tracing.Ratio <= 1):
		return "tracing.ratio", "is not within 0 and 1"
	case s.TargetCapacity != nil && !(*s.TargetCapacity >= 0 && *s.TargetCapacity <= 100):
		return "target_capacity", "is not within 0 and 100"
	}
	return "", ""
}

func (n Node) check() (field, problem string) {
	switch {
	case n.Incarnation == "":
		return "incarnation", "is missing"
	case n.State != NodeReady && n.State != NodeDraining:
		return "state", fmt.Sprintf("%q is not a state of a node", n.State)
	}
	return "", ""
}

func (a Assign) check() (field, problem string) {
	return needs("app", a.App, "deployment", a.Deployment, "version", a.Version)
}

func (r Replica) check() (field, problem string) {
	if field, problem = needs("app", r.App, "deployment", r.Deployment, "version", r.Version); problem != "" {
		return field, problem
	}
	switch r.State {
	case helvetype.ReplicaStarting, helvetype.ReplicaRecovering, helvetype.ReplicaRunning, helvetype.ReplicaStopping:
		return "", ""
	}
	return "state", fmt.Sprintf("%q is not a state of a replica", r.State)
}

// needs finds the first of several fields, given as name and value, that is empty.
func needs(fields ...string) (field, problem string) {
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			return fields[i], "is missing"
		}
	}
	return "", ""
}

// envelope is the JSON of every record.
type envelope struct {
	Format int             `json:"format"`
	Record json.RawMessage `json:"record"`
}

// Encode gives the operation that writes a record. For example, store.Encode(store.ScaleKey("hello", "D"), store.Scale{
// Replicas: 2}) puts {"format":1,"record":{"replicas":2, ...}} at scale/hello/D.
func Encode[R Record](key Key[R], record R) (Op, error) {
	if field, problem := record.check(); problem != "" {
		return Op{}, recordError(key.path, field, problem)
	}
	body, err := json.Marshal(record)
	if err == nil {
		body, err = json.Marshal(envelope{format, body})
	}
	if err != nil {
		return Op{}, fmt.Errorf("record %s: %w", key.path, err)
	}
	return Put(key.path, body), nil
}

// Decode reads a record. Its error names the key and, where one field is at fault, the field. The record must exist.
func Decode[R Record](kv KV) (record R, err error) {
	var e envelope
	if err := strict(kv.Value, &e); err != nil {
		return record, decodeError(kv.Key, err)
	}
	if e.Format < 1 || e.Format > format {
		return record, recordError(kv.Key, "format", fmt.Sprintf("is %d, this program reads %s", e.Format, Formats(format)))
	}
	if len(e.Record) == 0 || bytes.Equal(e.Record, []byte("null")) {
		return record, recordError(kv.Key, "record", "is missing")
	}
	if err := strict(e.Record, &record); err != nil {
		return record, decodeError(kv.Key, err)
	}
	if field, problem := record.check(); problem != "" {
		return record, recordError(kv.Key, field, problem)
	}
	return record, nil
}

// strict decodes JSON, and refuses fields that the type does not have and text after the value.
func strict(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is text after the record")
	}
	return nil
}

// Check gives an error for a record that this program cannot read. For example, one in a newer format, which a newer program has written.
func Check(kv KV) error {
	key, err := ParseKey(kv.Key)
	if err != nil {
		return err
	}
	switch key.Kind {
	case kindApp:
		_, err = Decode[App](kv)
	case kindRevision:
		_, err = Decode[Revision](kv)
	case kindScale:
		_, err = Decode[Scale](kv)
	case kindSettings:
		_, err = Decode[Settings](kv)
	case kindNode:
		_, err = Decode[Node](kv)
	case kindAssign:
		_, err = Decode[Assign](kv)
	case kindReplica:
		_, err = Decode[Replica](kv)
	}
	return err
}

// BlobsOf has the digests of the blobs that a record of any kind needs.
func BlobsOf(kv KV) ([]string, error) {
	key, err := ParseKey(kv.Key)
	if err != nil {
		return nil, nil //nolint:nilerr // a record that is not known needs none
	}
	switch key.Kind {
	case kindApp:
		a, err := Decode[App](kv)
		return a.Blobs(), err
	case kindRevision:
		r, err := Decode[Revision](kv)
		return r.Blobs(), err
	}
	return nil, nil
}

func recordError(key, field, problem string) error {
	return fmt.Errorf("record %s: field %q: %s", key, field, problem)
}

func decodeError(key string, err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		return recordError(key, t.Field, fmt.Sprintf("a JSON %s cannot be a value of type %s", t.Value, t.Type))
	}
	return fmt.Errorf("record %s: %w", key, err)
}

// Stored is a record with its place in the store.
type Stored[R Record] struct {
	KV
	Record R
}

// Get reads a record. Modified is 0 if it does not exist.
func Get[R Record](ctx context.Context, s Store, key Key[R]) (r Stored[R], err error) {
	if r.KV, _, err = s.Get(ctx, key.path); err != nil || r.Modified == 0 {
		return r, err
	}
	r.Record, err = Decode[R](r.KV)
	return r, err
}

// List reads the records with a prefix. Records that cannot be read are left out, and are in the error; the others are given
// all the same, so that one record of a newer program does not hide the rest.
func List[R Record](ctx context.Context, s Store, prefix Prefix[R]) (records []Stored[R], revision int64, err error) {
	kvs, revision, err := s.List(ctx, prefix.path)
	if err != nil {
		return nil, 0, err
	}
	var bad []error
	for _, kv := range kvs {
		record, err := Decode[R](kv)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		records = append(records, Stored[R]{kv, record})
	}
	return records, revision, errors.Join(bad...)
}
