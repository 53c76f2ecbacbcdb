package control

import (
	"context"
	"encoding/json"

	"github.com/helve-serve/helve/helvetype"
)

// Settings has the settings that files set, with secrets redacted.
func (o *Operator) Settings(context.Context) (s helvetype.NodeSettings, err error) {
	return helvetype.NodeSettings{ProxyLocation: "EveryNode", HTTPOptions: json.RawMessage("{}"), LoggingConfig: json.RawMessage("{}")}, nil
}

// settings makes the settings of the file those of the node.
func (ap *apply) settings(context.Context) error { return nil }
