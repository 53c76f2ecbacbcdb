package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/helve-serve/helve/internal/yaml11"
)

// Bounds of a file. A file of a hundred applications has some thousand values; aliases of aliases can make a million of ten lines.
const (
	maxFile   = 1 << 20
	maxValues = 100_000
	maxDepth  = 50
)

// tree reads the text of a file. A text without a value gives nil.
func (r *reader) tree(source []byte) *value {
	if len(source) > maxFile {
		r.wrong(place{1, 1, 1}, "has %d bytes, and may have %d", len(source), maxFile)
		return nil
	}
	source = bytes.TrimPrefix(source, []byte("\ufeff"))
	if !r.isText(source) {
		return nil
	}
	if isJSON(source) {
		v, err := r.jsonTree(source)
		if err != nil {
			r.mistakes = append(r.mistakes, asMistake(err))
			return nil
		}
		return v
	}
	tokens := lexer.Tokenize(string(source))
	if !r.shallow(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			r.wrong(at(doc.Body.GetToken()), "the file has a second document, behind a line ---: write all applications into one list `applications:`")
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil
	}
	v, err := (&builder{r: r, anchors: map[string]ast.Node{}}).value(body, 0)
	if err != nil {
		r.mistakes = append(r.mistakes, asMistake(err))
		return nil
	}
	return v
}

// isText finds bytes that YAML does not allow.
func (r *reader) isText(source []byte) bool {
	line, column := 1, 1
	for i := 0; i < len(source); {
		c, size := utf8.DecodeRune(source[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			r.wrong(place{line, column, 1}, "is no text in UTF-8: it has the byte 0x%02x", source[i])
			return false
		case c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f:
			r.wrong(place{line, column, 1}, "has the character %#U, which a text has not", c)
			return false
		}
		i += size
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return true
}

// shallow refuses a text with too many values inside each other before it is parsed, because the parser calls itself for each.
func (r *reader) shallow(tokens token.Tokens) bool {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		switch t.Type { //nolint:exhaustive // the others do not nest
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			if t.Position.Line != line {
				line, dashes = t.Position.Line, 0
			}
			dashes++
		}
		if flow > maxDepth || dashes > maxDepth || t.Position.Column > 1000*maxDepth {
			r.wrong(at(t), "has more than %d values inside each other", maxDepth)
			return false
		}
	}
	return true
}

// syntax adds the mistake that the parser found.
func (r *reader) syntax(err error) {
	var of yaml.Error
	if !errors.As(err, &of) || of.GetToken() == nil {
		r.wrong(place{1, 1, 1}, "is no YAML: %s", err)
		return
	}
	r.wrong(at(of.GetToken()), "is no YAML: %s%s", of.GetMessage(), meaning(of))
}

// meaning explains a message of the parser that users see often.
func meaning(of yaml.Error) string {
	t := of.GetToken()
	switch message := of.GetMessage(); {
	case strings.Contains(t.Origin, "\t") || strings.Contains(message, "tab"):
		return "; indent with spaces, because YAML allows no tab there"
	case strings.Contains(message, "mapping value is not allowed in this context"):
		return "; is the line indented as its neighbors? A text with `: ` inside needs quotes"
	case strings.Contains(message, "unexpected key name"), strings.Contains(message, "non-map value"):
		return "; is a colon missing behind a key, or is the line indented as its neighbors?"
	}
	return ""
}

// at is the place of a token.
func at(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1, 1}
	}
	first, _, _ := strings.Cut(strings.Trim(t.Origin, " \n\r"), "\n")
	return place{max(1, t.Position.Line), max(1, t.Position.Column), max(1, utf8.RuneCountInString(first))}
}

// builder makes values of the nodes of the parser.
type builder struct {
	r       *reader
	anchors map[string]ast.Node
	open    []string // names of anchors whose value is being made
	values  int
}

func (b *builder) fail(n ast.Node, format string, args ...any) error {
	return b.r.mistake(at(n.GetToken()), fmt.Sprintf(format, args...))
}

// value makes the value of a node at a depth.
func (b *builder) value(n ast.Node, depth int) (*value, error) {
	b.values++
	switch {
	case b.values > maxValues:
		return nil, b.fail(n, "the file has more than %d values, counted with those of aliases", maxValues)
	case depth > maxDepth:
		return nil, b.fail(n, "has more than %d values inside each other", maxDepth)
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		return b.anchor(n, depth)
	case *ast.AliasNode:
		return b.alias(n, depth)
	case *ast.TagNode:
		return b.tagged(n, depth)
	case *ast.MappingNode, *ast.MappingValueNode:
		return b.object(n.(ast.MapNode), n, depth) //nolint:forcetypeassert // both are
	case *ast.SequenceNode:
		v := &value{kind: list, at: at(n.GetToken())}
		for _, item := range n.Values {
			made, err := b.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, made)
		}
		return v, nil
	case *ast.LiteralNode:
		return &value{kind: text, at: at(n.GetToken()), text: n.Value.Value}, nil
	case *ast.StringNode:
		if n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType {
			return &value{kind: text, at: at(n.Token), text: n.Value}, nil
		}
		return b.plain(n, n.Value)
	case *ast.NullNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return b.plain(n, n.GetToken().Value)
	}
	return nil, b.fail(n, "a %s cannot stand here", strings.ToLower(n.Type().String()))
}

// kinds are those of texts without quotes.
var kinds = map[yaml11.Kind]kind{yaml11.Null: null, yaml11.Boolean: boolean, yaml11.Number: number, yaml11.Text: text} //nolint:gochecknoglobals // a constant

// plain reads a text without quotes.
func plain(s string) (kind, string, error) {
	k, form, err := yaml11.Read(s)
	return kinds[k], form, err
}

func (b *builder) plain(n ast.Node, s string) (*value, error) {
	k, form, err := plain(s)
	if err != nil {
		b.r.wrong(at(n.GetToken()), "%s", err)
	}
	return &value{kind: k, at: at(n.GetToken()), text: form}, nil
}

func (b *builder) anchor(n *ast.AnchorNode, depth int) (*value, error) {
	name := n.Name.GetToken().Value
	if n.Value == nil {
		return &value{at: at(n.GetToken())}, nil
	}
	b.open = append(b.open, name)
	v, err := b.value(n.Value, depth)
	b.open = b.open[:len(b.open)-1]
	b.anchors[name] = n.Value
	return v, err
}

func (b *builder) alias(n *ast.AliasNode, depth int) (*value, error) {
	name := n.Value.GetToken().Value
	for _, open := range b.open {
		if open == name {
			return nil, b.fail(n, "the value &%s has itself inside", name)
		}
	}
	of, ok := b.anchors[name]
	if !ok {
		return nil, b.fail(n, "*%s: no value before this line has the name &%s", name, name)
	}
	b.open = append(b.open, name)
	v, err := b.value(of, depth)
	b.open = b.open[:len(b.open)-1]
	return v, err
}

// tagged reads a value with a tag: !secret marks a text, and !!str and its like say how a text is read.
func (b *builder) tagged(n *ast.TagNode, depth int) (*value, error) {
	tag := n.Start.Value
	if n.Value == nil {
		return nil, b.fail(n, "the tag %s has no value", tag)
	}
	v, err := b.value(n.Value, depth)
	if err != nil {
		return nil, err
	}
	scalar := v.kind != list && v.kind != object
	switch tag {
	case "!secret", "!!str":
		if !scalar {
			return nil, b.fail(n, "the tag %s is for a text", tag)
		}
		if v.kind != text {
			v.text = n.Value.GetToken().Value
		}
		v.kind, v.marked = text, tag == "!secret"
		return v, nil
	case "!!int", "!!float":
		if v.kind != number {
			return nil, b.fail(n, "%s cannot be read as %s", v.shown(), tag)
		}
		return v, nil
	case "!!bool":
		if v.kind != boolean {
			return nil, b.fail(n, "%s cannot be read as %s", v.shown(), tag)
		}
		return v, nil
	case "!!null":
		return &value{at: v.at}, nil
	case "!!map", "!!seq":
		if want := map[string]kind{"!!map": object, "!!seq": list}[tag]; v.kind != want {
			return nil, b.fail(n, "the value has the tag %s, and is %s", tag, v.kind)
		}
		return v, nil
	}
	return nil, b.fail(n, "a value with the tag %s: must be plain, or have the tag !secret", tag)
}

// object makes the fields of a mapping. The fields of << come last, and only where the mapping does not have them.
func (b *builder) object(m ast.MapNode, n ast.Node, depth int) (*value, error) {
	v := &value{kind: object, at: at(n.GetToken())}
	var merged []*value
	for pairs := m.MapRange(); pairs.Next(); {
		key := pairs.Key()
		made, err := b.value(pairs.Value(), depth+1)
		if err != nil {
			return nil, err
		}
		if key.IsMergeKey() {
			merged = append(merged, made)
			continue
		}
		name, err := b.key(key)
		if err != nil {
			return nil, err
		}
		where := at(key.GetToken())
		if made.kind == null || len(v.fields) == 0 && v.at.line == 0 {
			made.at = where
		}
		if len(v.fields) == 0 {
			v.at = where
		}
		if first := v.field(name); first != nil {
			b.r.wrong(where, "%s: is in line %d too", name, first.at.line)
			b.r.hideSecrets(&value{kind: object, fields: []field{{name, where, made}}})
			continue
		}
		v.fields = append(v.fields, field{name, where, made})
	}
	for _, other := range merged {
		from := []*value{other}
		if other.kind == list {
			from = other.items
		}
		for _, o := range from {
			if o.kind != object {
				return nil, b.r.mistake(o.at, "<< must have fields, is "+o.shown())
			}
			for _, f := range o.fields {
				if v.field(f.name) == nil {
					v.fields = append(v.fields, f)
				}
			}
		}
	}
	return v, nil
}

// key is the name of a field.
func (b *builder) key(n ast.MapKeyNode) (string, error) {
	var of ast.Node = n
	if k, ok := of.(*ast.MappingKeyNode); ok && k.Value != nil {
		of = k.Value
	}
	for {
		a, ok := of.(*ast.AnchorNode)
		if !ok || a.Value == nil {
			break
		}
		b.anchors[a.Name.GetToken().Value] = a.Value
		of = a.Value
	}
	switch of := of.(type) {
	case *ast.StringNode:
		return of.Value, nil
	case *ast.NullNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return of.GetToken().Value, nil
	case *ast.AliasNode:
		if v, err := b.alias(of, 0); err == nil && v.kind == text {
			return v.text, nil
		}
	}
	return "", b.fail(n, "the name of a field must be a text")
}
