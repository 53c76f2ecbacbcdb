package helvetype

import (
	"encoding/json"
	"time"
)

// Settings are the settings of a node as they hold now, with the parts that files and requests have set.
type Settings struct {
	// Generation is the generation of the target.
	Generation uint64 `json:"generation"`
	// TargetCapacity is the percentage of all numbers of replicas that runs; null for 100.
	TargetCapacity *float64 `json:"target_capacity"`
	// HTTP is the ingress.
	HTTP HTTPSettings `json:"http"`
	// Admin is the admin interface.
	Admin AdminSettings `json:"admin"`
	// Tracing says which requests are sampled and which are slow, and where spans go.
	Tracing Tracing `json:"tracing"`
	// TracingSet is the tracing_config that a file or a request has set, as JSON.
	TracingSet json.RawMessage `json:"tracing_set"`
	// LoggingSet is the logging_config that a file has set, as JSON.
	LoggingSet json.RawMessage `json:"logging_set"`
	// Profiles are the continuous profiles of replicas.
	Profiles ProfileSettings `json:"profiles"`
	// Store has the records of the target.
	Store StoreSettings `json:"store"`
	// Keeper is the process above a durable node, which has its sockets and its workers; null for another node.
	Keeper *KeeperSettings `json:"keeper"`
	// Node is the process of the node.
	Node ProcessSettings `json:"node"`
}

// HTTPSettings are the listeners and options of the ingress.
type HTTPSettings struct {
	// URLs are those of the listeners; empty for a node without HTTP.
	URLs []string `json:"urls"`
	// Options are the options that hold.
	Options HTTPInEffect `json:"options"`
	// Set has the fields of http_options that files and requests have set, as JSON, with secrets redacted. The others are as the node was started.
	Set json.RawMessage `json:"set"`
}

// HTTPInEffect has the options of the ingress that can change while the node serves, as they hold now.
type HTTPInEffect struct {
	// RequestTimeout is the longest time of a request in seconds; 0 for no limit.
	RequestTimeout float64 `json:"request_timeout_s"`
	// RootPath is in front of every route prefix; "" for none.
	RootPath string `json:"root_path"`
	// KeepAlive is the longest time in seconds that a connection may be without a request.
	KeepAlive float64 `json:"keep_alive_timeout_s"`
	// TLS says that requests are encrypted.
	TLS bool `json:"tls"`
}

// AdminSettings is the admin interface over TCP.
type AdminSettings struct {
	// URLs are those of the listeners; empty for a node whose admin interface is on its socket alone.
	URLs []string `json:"urls"`
	// Dashboard is the URL of the dashboard; "" without a listener.
	Dashboard string `json:"dashboard,omitempty"`
	// TLS says that requests over TCP are encrypted.
	TLS bool `json:"tls"`
	// Tokens says that the node has tokens. Without them requests over TCP only read.
	Tokens bool `json:"tokens"`
}

// ProfileSettings say whether the node takes continuous profiles.
type ProfileSettings struct {
	// Continuous is true if it does.
	Continuous bool `json:"continuous"`
}

// StoreSettings is the store of a node.
type StoreSettings struct {
	// Kind is "disk", or "memory" for a node whose target ends with it.
	Kind string `json:"kind"`
	// Dir is the state directory; "" without one.
	Dir string `json:"dir,omitempty"`
	// Bytes is the size of the file with the records, without blobs; 0 without one.
	Bytes int64 `json:"bytes,omitempty"`
	// Writes is the number of writes since the node has started.
	Writes uint64 `json:"writes,omitempty"`
	// Syncs is the number of syncs of the file system since then.
	Syncs uint64 `json:"syncs,omitempty"`
	// Failing is the error of the last write; "" if it was made.
	Failing string `json:"failing,omitempty"`
}

// KeeperSettings is the keeper of a durable node.
type KeeperSettings struct {
	// PID is the process of the keeper.
	PID int `json:"pid"`
	// Starts is the number of nodes that the keeper has started, with the present one.
	Starts int `json:"starts"`
	// LastEnd says how the node before has ended; "" for none before.
	LastEnd string `json:"last_end,omitempty"`
}

// ProcessSettings is the process of a node.
type ProcessSettings struct {
	// PID is the process of the node.
	PID int `json:"pid"`
	// Version is the version of Helve.
	Version string `json:"version"`
	// StartedAt is the time at which the admin interface of the node was opened.
	StartedAt time.Time `json:"started_at"`
}

// SettingsChange is a change of the settings of a node while it runs. Fields that are not there stay.
type SettingsChange struct {
	// TargetCapacity is a percentage from 0 to 100; null for 100.
	TargetCapacity json.RawMessage `json:"target_capacity,omitempty"`
	// HTTPOptions has fields of http_options. A field that is null is as the node was started; null in place of the fields is so for all.
	HTTPOptions json.RawMessage `json:"http_options,omitempty"`
}

// SettingsOutcome is the answer to a change of settings.
type SettingsOutcome struct {
	// Settings are the settings after the change.
	Settings Settings `json:"settings"`
	// Warnings are about fields that hold later or have no effect, each with the way to change them.
	Warnings []string `json:"warnings"`
}

// SettingsPlan says what a change of settings would do.
type SettingsPlan struct {
	// Generation is the generation of the target that the plan is for.
	Generation uint64 `json:"generation"`
	// Changes are the fields that would have other values, with secrets redacted.
	Changes []ValueChange `json:"changes"`
	// Warnings are about fields that would hold later or have no effect.
	Warnings []string `json:"warnings"`
}
