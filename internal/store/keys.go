package store

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Key is the key of a record of type R. The functions below make keys; [ParseKey] reads one.
type Key[R Record] struct{ path string }

// String is the key as the store has it.
func (k Key[R]) String() string { return k.path }

// Prefix is the beginning of the keys of several records of one type.
type Prefix[R Record] struct{ path string }

// String is the prefix as the store has it. It ends in a slash.
func (p Prefix[R]) String() string { return p.path }

// The kinds of records, which are the first parts of their keys.
const (
	kindApp      = "apps"
	kindRevision = "revisions"
	kindScale    = "scale"
	kindSettings = "settings"
	kindNode     = "nodes"
	kindAssign   = "assign"
	kindReplica  = "replicas"
)

// join writes a key. Names are escaped, so that a slash in a name separates nothing: "a/b" becomes "a%2Fb".
func join(kind string, names ...string) string {
	for _, name := range names {
		kind += "/" + url.PathEscape(name)
	}
	return kind
}

// AppKey is apps/A.
func AppKey(app string) Key[App] { return Key[App]{join(kindApp, app)} }

// RevisionKey is revisions/A/N. N has ten digits, so that the order of the keys is that of the revisions.
func RevisionKey(app string, number uint64) Key[Revision] {
	return Key[Revision]{join(kindRevision, app, fmt.Sprintf("%010d", number))}
}

// ScaleKey is scale/A/D.
func ScaleKey(app, deployment string) Key[Scale] { return Key[Scale]{join(kindScale, app, deployment)} }

// SettingsKey is settings.
func SettingsKey() Key[Settings] { return Key[Settings]{kindSettings} }

// NodeKey is nodes/N.
func NodeKey(node string) Key[Node] { return Key[Node]{join(kindNode, node)} }

// AssignKey is assign/N/ID.
func AssignKey(node, replica string) Key[Assign] { return Key[Assign]{join(kindAssign, node, replica)} }

// ReplicaKey is replicas/N/ID.
func ReplicaKey(node, replica string) Key[Replica] {
	return Key[Replica]{join(kindReplica, node, replica)}
}

// Apps has all applications.
func Apps() Prefix[App] { return Prefix[App]{kindApp + "/"} }

// Revisions has the revisions of an application, the oldest first, or of all applications if app is "".
func Revisions(app string) Prefix[Revision] { return Prefix[Revision]{within(kindRevision, app)} }

// Volatile says whether a record describes a process that lives, and is worth nothing after the end of the node that wrote it: of a node, an
// assignment or a replica. All others are the target, which a store on disk keeps.
func Volatile(key string) bool {
	for _, kind := range []string{kindNode, kindAssign, kindReplica} {
		if strings.HasPrefix(key, kind+"/") {
			return true
		}
	}
	return false
}

// Scales has the numbers of replicas of an application's deployments, or those of all applications if app is "".
func Scales(app string) Prefix[Scale] { return Prefix[Scale]{within(kindScale, app)} }

// Nodes has all nodes.
func Nodes() Prefix[Node] { return Prefix[Node]{kindNode + "/"} }

// Assigns has the assignments of a node, or of all nodes if node is "".
func Assigns(node string) Prefix[Assign] { return Prefix[Assign]{within(kindAssign, node)} }

// Replicas has the replicas of a node, or of all nodes if node is "".
func Replicas(node string) Prefix[Replica] { return Prefix[Replica]{within(kindReplica, node)} }

// within is the prefix of the keys of a kind, of one application or node, or of all if name is "".
func within(kind, name string) string {
	if name == "" {
		return kind + "/"
	}
	return join(kind, name) + "/"
}

// ParsedKey has the parts of a key. Fields that the kind does not have are empty.
type ParsedKey struct {
	Kind       string // apps, revisions, scale, settings, nodes, assign or replicas
	App        string
	Deployment string
	Node       string
	Replica    string
	Revision   uint64
}

// ParseKey reads a key of a record. Its error names the key and the part that is wrong.
func ParseKey(key string) (p ParsedKey, err error) {
	kind, rest, _ := strings.Cut(key, "/")
	var parts []string
	if rest != "" || strings.Contains(key, "/") {
		parts = strings.Split(rest, "/")
	}
	p.Kind = kind
	number := ""
	var into []*string
	var names []string
	switch kind {
	case kindApp:
		into, names = []*string{&p.App}, []string{"app"}
	case kindRevision:
		into, names = []*string{&p.App, &number}, []string{"app", "revision"}
	case kindScale:
		into, names = []*string{&p.App, &p.Deployment}, []string{"app", "deployment"}
	case kindSettings:
	case kindNode:
		into, names = []*string{&p.Node}, []string{"node"}
	case kindAssign, kindReplica:
		into, names = []*string{&p.Node, &p.Replica}, []string{"node", "replica"}
	default:
		return ParsedKey{}, fmt.Errorf("key %q: there are no records of the kind %q", key, kind)
	}
	if len(parts) != len(into) {
		return ParsedKey{}, fmt.Errorf("key %q: it has %d parts after %s, want %d", key, len(parts), kind, len(into))
	}
	for i, part := range parts {
		name, err := url.PathUnescape(part)
		if err == nil && (name == "" || url.PathEscape(name) != part) { // a record has one key
			err = fmt.Errorf("%q is not the name of a record", part)
		}
		if err != nil {
			return ParsedKey{}, fmt.Errorf("key %q: %s: %w", key, names[i], err)
		}
		*into[i] = name
	}
	if kind == kindRevision {
		if p.Revision, err = strconv.ParseUint(number, 10, 64); err != nil || fmt.Sprintf("%010d", p.Revision) != number {
			return ParsedKey{}, fmt.Errorf("key %q: revision: %q is not a number of ten digits", key, number)
		}
	}
	return p, nil
}
