package pickle

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// show writes a value as testdata/gen.py does.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case float64:
		if v != v { //nolint:gocritic // all NaN are one
			return "f7ff8000000000000"
		}
		return fmt.Sprintf("f%016x", math.Float64bits(v))
	case string:
		return "s" + hex.EncodeToString([]byte(v))
	case []byte:
		return "b" + hex.EncodeToString(v)
	case time.Time:
		return "t" + v.Format("2006-01-02T15:04:05.000000")
	case time.Duration:
		return fmt.Sprintf("d%d", int64(v))
	case *List:
		var parts []string
		for _, e := range v.Items {
			parts = append(parts, show(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case *Dict:
		var parts []string
		for _, e := range v.Entries {
			parts = append(parts, show(e.Key)+":"+show(e.Value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case *Object:
		return "refused " + v.Class
	}
	return fmt.Sprint(v)
}

type golden struct {
	Protocol               int
	Pickle, Shows, Refused string
	Buffers                []string
	data                   []byte
}

func goldens(t testing.TB) []golden {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 400 {
		t.Fatalf("%d, %v", len(all), err)
	}
	for i := range all {
		r, err := zlib.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(all[i].Pickle)))
		if err != nil {
			t.Fatal(err)
		}
		if all[i].data, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// short is a long text in the form in which gen.py prints it.
func short(s string) string {
	if len(s) < 500 {
		return s
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden reads pickles that CPython wrote in every protocol (testdata/gen.py), whole and cut short.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		data := g.data
		var buffers [][]byte
		for _, b := range g.Buffers {
			buffers = append(buffers, fromHex(t, b))
		}
		v, err := Read(data, buffers, 100)
		got := short(show(v))
		if err != nil {
			got = "refused " + err.Error()
		}
		switch {
		case g.Shows != "" && got != g.Shows:
			t.Errorf("protocol %d, %.60q: %.200s, want %.200s", g.Protocol, data, got, g.Shows)
		case g.Shows == "" && (!strings.Contains(got, "refused") || !strings.Contains(got, g.Refused)):
			t.Errorf("protocol %d, %.60q: %.200s, want %s refused", g.Protocol, data, got, g.Refused)
		}
		for i := 0; i < len(data); i += 1 + len(data)/50 {
			if v, err := Read(data[:i], buffers, 100); err == nil {
				t.Errorf("%.60q is cut short and reads as %s", data[:i], show(v))
			}
		}
	}
}

func TestHandMade(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"S'a\\x41\\n\\'\\\\'\n.":                 "s" + hex.EncodeToString([]byte("aA\n'\\")), // Python 2
		"S\"q\"\n.":                              "s71",
		"U\x01x.":                                "s78",
		"T\x01\x00\x00\x00x.":                    "s78",
		"I01\n.":                                 "true",
		"I00\n.":                                 "false",
		"I7\n.":                                  "7",
		"L-7L\n.":                                "-7",
		"Fnan\n.":                                "f7ff8000000000000",
		"V\\u00e9\\U0001f600\\x\\\\u0041\xe9\n.": "s" + hex.EncodeToString([]byte("é😀\\x\\\\u0041é")),
		"(dS'a'\nI1\ns.":                         "{s61:1}",
		"(lI1\naI2\na.":                          "[1,2]",
		"(I1\nI2\nt.":                            "[1,2]",
		"I1\nI2\n0.":                             "1",
		"(I1\nI2\n1I3\n.":                        "3",
		"(0I3\n.":                                "3",
		"]I1\n2a.":                               "", // a list that is not on the stack
		"]2a.":                                   "", // the stack is empty
		"I1\n2\x86.":                             "[1,1]",
		"(imymod\nCls\n.":                        "refused mymod.Cls",
		"(cmymod\nCls\nI1\no.":                   "refused mymod.Cls",
		"c__builtin__\nset\n(](K\x01et\x85R.":    "[[1]]",
		"c__builtin__\nset\n](K\x01e\x85R.":      "[1]",
		"ccollections\nOrderedDict\n)R(U\x01aK\x01u}b.": "", // state
		"ca\nB\n)\x81}b(U\x01aK\x01u.":                  "refused a.B",
		"ca\nB\n)}\x92.":                                "refused a.B",
		"cos\nsystem\n(S'true'\ntR.":                    "refused os.system",
		"c__builtin__\neval\n(S'1'\ntR.":                "refused builtins.eval",
		"K\x01(S'true'\ntR.":                            "",
		"cos\nsystem\nK\x01R.":                          "",
		"ccloudpickle.cloudpickle\n_make_skeleton_class\n(cbuiltins\ntype\nU\x03FootR)\x81.":                               "refused __main__.Foo",
		"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00tR.":                                                 "refused numpy.ndarray",
		"cdatetime\ndatetime\n(C\x0a\x07\xea\x01\x02\x03\x04\x05\x00\x00\x00czoneinfo\nZoneInfo._unpickle\n(U\x03UTCtRtR.": "refused zoneinfo.ZoneInfo",
		"cdatetime\ndatetime\n(C\x0a\x07\xea\x0d\x02\x03\x04\x05\x00\x00\x00tR.":                                           "",
		"cdatetime\ndate\n(C\x04\x00\x00\x01\x01tR.":                                                                       "",
		"Pid\n.":                                 "",
		"K\x01Q.":                                "",
		"\x82\x01.":                              "",
		"\x84\x01\x00\x00\x00.":                  "",
		"\x80\x06N.":                             "",
		"\x97.":                                  "",
		"\x98.":                                  "",
		"K\x01\x98.":                             "",
		"\x95\xff\x00\x00\x00\x00\x00\x00\x00N.": "",
		"K\x01p5\n0h\x05.":                       "1",
		"K\x01p5\n0h\x04.":                       "",
		"K\x01j\x00\x00\x00\x00.":                "",
		"K\x01r\xff\xff\xff\x7f.":                "",
		"K\x01p-1\n.":                            "",
		"gx\n.":                                  "",
		"":                                       "",
		".":                                      "",
		"NN.":                                    "",
		"(N.":                                    "",
		"N.N":                                    "",
		"0.":                                     "",
		"1.":                                     "",
		"2.":                                     "",
		"a.":                                     "",
		"e.":                                     "",
		"K\x01(e.":                               "",
		"](K\x01\x90.":                           "",
		"}(K\x01u.":                              "",
		"}(K\x01e.":                              "",
		")K\x01a.":                               "",
		"\x8f(K\x01e.":                           "",
		"\x8f(K\x01\x90.":                        "[1]",
		"R.":                                     "",
		"b.":                                     "",
		"o.":                                     "",
		"(o.":                                    "",
		"(Ko.":                                   "",
		"(K\x01o.":                               "",
		"\x93.":                                  "",
		"K\x01K\x01\x93.":                        "",
		"K\x01)\x81.":                            "",
		"c\xff\n\xff\n.":                         "",
		"ca\nb.":                                 "",
		"ia.":                                    "",
		"I1_0\n.":                                "",
		"I0x1\n.":                                "",
		"L\n.":                                   "",
		"F\n.":                                   "",
		"Fx\n.":                                  "",
		"F1e999\n.":                              "f7ff0000000000000",
		"I1":                                     "",
		"S'\n.":                                  "",
		"Sx\n.":                                  "",
		"S'\\q'\n.":                              "",
		"S'\\x4'\n.":                             "",
		"S'\\xzz'\n.":                            "",
		"S'\xff'\n.":                             "",
		"U\x01\xff.":                             "",
		"X\x01\x00\x00\x00\xff.":                 "",
		"V\\ud800\n.":                            "",
		"V\\u00\n.":                              "",
		"V\\uzzzz\n.":                            "",
		"V\\Uffffffff\n.":                        "",
		"\x8b\x00\x00\x00\x00.":                  "0",
		"\x8a\x00.":                              "0",
		"\xff.":                                  "",
		"L" + strings.Repeat("9", maxDigits+1) + "\n.": "",
	} {
		v, err := Read([]byte(data), nil, 100)
		got := show(v)
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %s, %v; want %s", data, got, err, want)
		}
	}
}

func TestErrorsSayWhatItIs(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"ca\nB\n)\x81.": "pickle holds an instance of a.B, which Go does not read; use plain data or msgpack",
		"ca\nB\n.":      "pickle holds the class or function a.B, which Go does not read; use plain data or msgpack",
	} {
		v, err := Read([]byte(data), nil, 100)
		o, ok := v.(*Object)
		if err != nil || !ok {
			t.Fatalf("%q: %v, %v", data, v, err)
		}
		if e, ok := errors.AsType[*RefusedError](o.Refused()); !ok || e.Error() != want {
			t.Errorf("%q: %v, want %s", data, e, want)
		}
	}
	for data, want := range map[string]string{
		"Pid\n.":                         "persistent id",
		"\x83\x05\x00.":                  "class 5 of copyreg's extensions",
		"\x80\x07N.":                     "protocol 7 is newer",
		"\x97.":                          "was not sent",
		"](K\x01":                        "invalid pickle near byte 4: it ends too early",
		"]q\x00h\x00a.":                  "contains itself",
		"}q\x00(U\x01ah\x00u.":           "contains itself",
		"X\x03\x00\x00\x00\xed\xa0\x80.": "surrogate",
	} {
		if v, err := Read([]byte(data), nil, 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v; want %s", data, show(v), err, want)
		}
	}
	deep := strings.Repeat("]", 200) + strings.Repeat("a", 199) + "."
	if _, err := Read([]byte(deep), nil, 200); err != nil {
		t.Error(err)
	}
	if _, err := Read([]byte(deep), nil, 199); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Error(err)
	}
}

// TestFrameViolations: false lengths, and operations that make a large value of a short pickle.
//
// The test counts the allocations of the process, so it is not parallel.
func TestFrameViolations(t *testing.T) {
	text := strings.Repeat("x", 1<<16)
	again := strings.Repeat("h\x00h\x01R0", 1<<14)
	for name, data := range map[string]string{
		"str":        "\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
		"bytes":      "\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
		"int":        "\x8b\xff\xff\xff\x7f.",
		"memo":       "Nr\xff\xff\xff\xff.",
		"latin1":     "c_codecs\nencode\nq\x000(V" + text + "\nU\x06latin1tq\x010" + again + "N.",
		"set":        "c__builtin__\nset\nq\x000](" + strings.Repeat("N", 1<<16) + "e\x85q\x010" + strings.Repeat("h\x00h\x01R(N\x900", 1<<14) + "N.",
		"list":       "](" + strings.Repeat("N", 1<<16) + "eq\x000" + strings.Repeat("(h\x00l0", 1<<14) + "N.",
		"nested dup": "]" + strings.Repeat("2\x86", 1<<16) + ".",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		v, err := Read([]byte(data), nil, 1000)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(1<<20+200*len(data)) {
			t.Errorf("%s: %T, %v: %d KiB for %d", name, v, err, grown>>10, len(data))
		}
	}
}

// write writes a value that Read returned.
func write(w *Writer, v any) error {
	switch v := v.(type) {
	case nil:
		w.Nil()
	case bool:
		w.Bool(v)
	case int64:
		w.Int(v)
	case *big.Int:
		return w.Big(v)
	case float64:
		w.Float(v)
	case string:
		return w.String([]byte(v))
	case []byte:
		w.Bytes(v)
	case time.Time:
		return w.Time(v)
	case time.Duration:
		w.Int(int64(v))
	case *List:
		w.List(len(v.Items))
		for _, e := range v.Items {
			if err := write(w, e); err != nil {
				return err
			}
		}
		w.EndList(len(v.Items))
	case *Dict:
		w.Dict(len(v.Entries))
		for _, e := range v.Entries {
			if k, ok := e.Key.(string); ok {
				if err := w.Key([]byte(k)); err != nil {
					return err
				}
			} else if err := write(w, e.Key); err != nil {
				return err
			}
			if err := write(w, e.Value); err != nil {
				return err
			}
		}
		w.EndDict(len(v.Entries))
	case *Object:
		return v.Refused()
	}
	return nil
}

func TestWriterLimits(t *testing.T) {
	t.Parallel()
	w := Begin(nil)
	if err := w.String([]byte("\xff")); err == nil {
		t.Error("text that is not UTF-8")
	}
	if err := w.Key([]byte("a\xff")); err == nil {
		t.Error("a key that is not UTF-8")
	}
	for _, year := range []int{0, 10000} {
		if err := w.Time(time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)); err == nil || !strings.Contains(err.Error(), "year") {
			t.Errorf("%d: %v", year, err)
		}
	}
	// More keys than a Writer remembers, each twice.
	w = Begin([]byte("before"))
	w.List(2)
	for range 2 {
		w.Dict(keysMax + 10)
		for i := range keysMax + 10 {
			if err := w.Key(fmt.Appendf(nil, "key %d", i)); err != nil {
				t.Fatal(err)
			}
			w.Uint(uint64(i) << 50)
		}
		w.EndDict(keysMax + 10)
	}
	w.EndList(2)
	v, err := Read(bytes.TrimPrefix(w.End(), []byte("before")), nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	items := v.(*List).Items
	if show(items[0]) != show(items[1]) || !strings.HasSuffix(show(items[0]), fmt.Sprintf(":%d}", uint64(keysMax+9)<<50)) {
		t.Errorf("%.100s\n%.100s", show(items[0]), show(items[1]))
	}
}

// FuzzPickle: no input panics or makes a large value of a short pickle, and a value stays the same when it is written
// and read again.
func FuzzPickle(f *testing.F) {
	for i, g := range goldens(f) {
		if len(g.data) < 500 && i%7 == 0 {
			f.Add(g.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Read(data, [][]byte{{1}, {2, 3}}, 1000)
		if err != nil {
			return
		}
		if tree(v, 1<<16) < 0 {
			return // references to references: the caller has to limit the output
		}
		w := Begin(nil)
		if err := write(w, v); err != nil {
			if _, ok := errors.AsType[*RefusedError](err); ok {
				return
			}
			t.Fatalf("%q is read, but cannot be written: %v", data, err)
		}
		once := w.End()
		back, err := Read(once, nil, 1000)
		if err != nil {
			t.Fatalf("%q: %v\n%q", data, err, once)
		}
		w = Begin(nil)
		if err := write(w, back); err != nil || !bytes.Equal(w.End(), once) {
			t.Fatalf("%q changes: %v\n%q", data, err, once)
		}
	})
}

// tree counts the values in v down from n, and returns the rest.
func tree(v any, n int) int {
	n--
	switch v := v.(type) {
	case string:
		n -= len(v) >> 8
	case []byte:
		n -= len(v) >> 8
	case *List:
		for i := 0; i < len(v.Items) && n >= 0; i++ {
			n = tree(v.Items[i], n)
		}
	case *Dict:
		for i := 0; i < len(v.Entries) && n >= 0; i++ {
			n = tree(v.Entries[i].Value, tree(v.Entries[i].Key, n))
		}
	}
	return n
}
