package wire

import (
	"encoding/hex"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// examples are the frames that docs/wire.md shows beside those of calls and of the second connection.
func examples(t testing.TB) map[string][]byte {
	t.Helper()
	run := func(from byte, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = from + byte(i)
		}
		return b
	}
	secret, mine, theirs := Token(run(0, 32)), run(0x20, 16), run(0x30, 16)
	value := func(h Header, v any) []byte {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return frameOf(h, nil, body)
	}
	c := call.Call{Want: call.Msgpack, Window: call.Window{Items: 256, Bytes: 1 << 20}, Items: &collector{}}
	c.Slots = []call.Slot{
		slot(0, []byte("hi")), {Kind: call.Named, Name: "n", Payload: call.Payload{Codec: call.Msgpack, Data: []byte{3}}},
	}
	c.Info = call.Info{Request: call.IDFromBytes([16]byte{0x11, 0x22}), Call: 6, Depth: 1, Affinity: &call.Affinity{Model: "m:1"}}
	meta, err := appendCall(nil, 3, &c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	item := func(codec call.Codec, data []byte) []byte {
		return call.AppendItem(nil, call.Payload{Codec: codec, Data: data})
	}
	answer := func(i int, r call.Result) []byte { return item(call.Raw, Answer(i, r).Data) }
	items := Header{Type: TypeItems, ID: 1}
	all := map[string][]byte{
		"HELLO of a worker": value(Header{Type: TypeHello}, Hello{
			Protocol: localVersions, Kind: "worker", Connection: ConnSmall, Language: "go", Version: "0.1.0", ID: "hello-1", PID: 123,
			Nonce: hex.EncodeToString(mine), Features: []string{FeatureBulk},
		}),
		"HELLO of the node": value(Header{Type: TypeHello}, Welcome{
			Protocol: 2, Version: "0.1.0", Nonce: hex.EncodeToString(theirs), Proof: hex.EncodeToString(proofOf(secret, "node", mine, theirs)),
			Features: []string{FeatureBulk}, Node: "n1",
		}),
		"PROOF":   frameOf(Header{Type: TypeProof}, nil, proofOf(secret, "dialler", mine, theirs)),
		"READY":   value(Header{Type: TypeReady}, ready{Arena: &Arena{ID: 7, Size: 1 << 30, Most: 64 << 20}}),
		"ROUTE":   value(Header{Type: TypeRoute, ID: 3}, Route{Replica: "D#1", Method: "SayHi"}),
		"CONTROL": value(Header{Type: TypeControl, ID: 1}, map[string]string{"op": "ping"}),
		"REPLY":   value(Header{Type: TypeReply, ID: 1}, struct{}{}),
		"a failed REPLY": value(Header{Type: TypeReply, ID: 2}, replyBody{&replyError{
			Reason: helvetype.ReasonUser, Type: "ValueError", Message: "no",
		}}),
		"CANCEL":            frameOf(Header{Type: TypeCancel, ID: 1}, nil, nil),
		"GOAWAY":            value(Header{Type: TypeGoaway}, Goaway{helvetype.CodeUnavailable.String(), "stopping", "bye", ""}),
		"CALL of a stream":  frameOf(Header{Type: TypeCall, ID: 1}, meta, []byte("hi\x03")),
		"ITEMS":             frameOf(items, nil, append(item(call.Msgpack, []byte{1}), item(call.Msgpack, []byte{0xa2, 'h', 'i'})...)),
		"CREDIT":            frameOf(Header{Type: TypeCredit, ID: 1}, le.AppendUint32(le.AppendUint32(nil, 128), 1000), nil),
		"the list":          frameOf(items, nil, item(call.JSON, []byte(`[{"replica":"D#1","node":"n1"}]`))),
		"an answer":         frameOf(items, nil, answer(0, call.Result{Payload: call.Payload{Codec: call.Text, Data: []byte("hi")}})),
		"an answer, failed": frameOf(items, nil, answer(0, call.Result{Err: call.NewError(helvetype.ReasonNoMethod, "none")})),
	}
	maps.Copy(all, segmentExamples(t))
	maps.Copy(all, exchangeExamples(t))
	return all
}

// TestPageExamples holds the byte-level examples of docs/wire.md.
func TestPageExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range examples(t) {
		if dump := hexDump(b); !strings.Contains(string(doc), "```\n"+dump+"```") {
			t.Errorf("docs/wire.md does not show this %s:\n%s", name, dump)
		}
	}
}

// TestPageNamesEveryFrame: the table of frames has exactly the types that the code has.
func TestPageNamesEveryFrame(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	inPage, inCode := map[string]string{}, map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| ([A-Z]+) \|`).FindAllStringSubmatch(string(doc), -1) {
		inPage[row[2]] = row[1]
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Type" {
					inCode[strings.ToUpper(strings.TrimPrefix(spec.Names[0].Name, "Type"))] = spec.Values[0].(*ast.BasicLit).Value
				}
			}
			return true
		})
	}
	if len(inCode) == 0 || !maps.Equal(inPage, inCode) {
		t.Errorf("docs/wire.md has the frames %v, the code has %v", inPage, inCode)
	}
}

// TestPageNamesEveryKey: every key of an envelope and a tail is in docs/wire.md, and so are the fields of hellos. The control
// requests are compared with the page in package protocol.
func TestPageNamesEveryKey(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, functions := range map[string][]string{"../codec/envelope.go": {"ParseError"}, "frame.go": {"parseCallMeta"}} {
		for _, key := range literals(t, path, functions...) {
			if !strings.Contains(string(doc), "`"+key+"`") {
				t.Errorf("docs/wire.md has no key %q, which %s reads", key, path)
			}
		}
	}
	var fields map[string]any
	for _, name := range []string{"HELLO of a worker", "HELLO of the node"} {
		if err := json.Unmarshal(examples(t)[name][headerLen:], &fields); err != nil {
			t.Fatal(err)
		}
		for field := range fields {
			if !strings.Contains(string(doc), `"`+field+`"`) {
				t.Errorf("docs/wire.md has no field %q of %s", field, name)
			}
		}
	}
}

// literals are the string literals that the cases of functions in a file have.
func literals(t *testing.T, path string, functions ...string) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		for _, name := range functions {
			if f.Name.Name != name {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if n, ok := n.(*ast.CaseClause); ok {
					for _, e := range n.List {
						add(e)
					}
				}
				return true
			})
		}
	}
	return out
}
