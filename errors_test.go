package helve_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// reasons are those that have a name in the package, by it.
var reasons = map[string]helvetype.Reason{
	"Backpressure": helve.Backpressure, "DeploymentUnavailable": helve.DeploymentUnavailable, "ReplicaUnavailable": helve.ReplicaUnavailable,
	"ReplicaDied": helve.ReplicaDied, "MayHaveRun": helve.MayHaveRun, "Deadline": helve.Deadline, "Cancelled": helve.Cancelled,
	"NoMethod": helve.NoMethod, "BadInput": helve.BadInput, "UnsupportedMedia": helve.UnsupportedMedia,
	"MethodNotAllowed": helve.MethodNotAllowed, "TooLarge": helve.TooLarge, "Cycle": helve.Cycle, "DepthExceeded": helve.DepthExceeded,
	"Lost": helve.Lost, "User": helve.User, "Fault": helve.Fault,
}

var codes = []helvetype.Code{
	helve.OK, helve.Canceled, helve.Unknown, helve.InvalidArgument, helve.DeadlineExceeded, helve.NotFound, helve.AlreadyExists,
	helve.PermissionDenied, helve.ResourceExhausted, helve.FailedPrecondition, helve.Aborted, helve.OutOfRange, helve.Unimplemented,
	helve.Internal, helve.Unavailable, helve.DataLoss, helve.Unauthenticated,
}

// TestErrorsHaveNames: every reason of the table and every code of gRPC is a constant of the package, and nothing else is.
func TestErrorsHaveNames(t *testing.T) {
	t.Parallel()
	known := map[helvetype.Reason]bool{}
	for _, row := range call.Table {
		known[row.Reason] = true
		if int(row.Code) >= len(codes) {
			t.Errorf("%s has the code %d", row.Reason, row.Code)
		}
	}
	named := map[helvetype.Reason]bool{}
	for name, r := range reasons {
		if named[r] || !known[r] {
			t.Errorf("%s, %q, is not a reason, or one that has another name too", name, r)
		}
		named[r] = true
	}
	if len(named) != len(call.Table) {
		t.Errorf("of %d reasons %d have a name", len(call.Table), len(named))
	}
	for i, c := range codes {
		if int(c) != i {
			t.Errorf("code %s is %d, not %d", c, c, i)
		}
	}
	if next := helvetype.Code(len(codes)); next.String() != "Unknown" {
		t.Errorf("there is a code %s without a name", next)
	}
	// The two above are all that errors.go exports.
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			constants += len(g.Specs)
		}
	}
	if constants != len(reasons)+len(codes) {
		t.Errorf("errors.go has %d constants, this test %d", constants, len(reasons)+len(codes))
	}
}

// TestErrorsPage: the table of docs/errors.md is the one in the code.
func TestErrorsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[helvetype.Reason]string{}
	for name, r := range reasons {
		names[r] = name
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); strings.HasPrefix(line, "| `") && len(cells) == 6 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[strings.Trim(cells[0], "`")] = cells
		}
	}
	if len(rows) != len(call.Table) {
		t.Errorf("the page has %d rows, the table %d", len(rows), len(call.Table))
	}
	for _, row := range call.Table {
		got := rows[string(row.Reason)]
		if got == nil {
			t.Errorf("the page lacks %s", row.Reason)
			continue
		}
		code, status, python := row.Code.String(), fmt.Sprint(row.HTTP), "`"+row.Python+"`"
		if row.Reason == helvetype.ReasonUser {
			code, status, python = code+", or the user's", status+", or by the code", "the user's type"
		}
		want := []string{"`helve." + names[row.Reason] + "`", got[2], code, status, python}
		for i, w := range want {
			if cell := got[i+1]; cell != w && !strings.HasSuffix(cell, ", a "+w) { // a class of its own below the table's
				t.Errorf("%s: the page says %q, the table %q", row.Reason, got[i+1], w)
			}
		}
		if got[2] == "" {
			t.Errorf("%s: the page does not say when", row.Reason)
		}
	}
}
