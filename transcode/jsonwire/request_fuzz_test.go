package jsonwire_test

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// registerEnums makes the enums of the tests known where grpc-gateway looks for them.
var registerEnums = sync.OnceValue(func() error {
	w, err := loadWorld()
	if err != nil {
		return err
	}
	var enums func(protoreflect.EnumDescriptors, protoreflect.MessageDescriptors)
	enums = func(es protoreflect.EnumDescriptors, ms protoreflect.MessageDescriptors) {
		for i := range es.Len() {
			if err == nil {
				err = protoregistry.GlobalTypes.RegisterEnum(dynamicpb.NewEnumType(es.Get(i)))
			}
		}
		for i := range ms.Len() {
			enums(ms.Get(i).Enums(), ms.Get(i).Messages())
		}
	}
	w.files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(fd.Package()), "test.") {
			enums(fd.Enums(), fd.Messages())
		}
		return true
	})
	return err
})

// queryRoots are the messages that fuzzed queries are read as.
var queryRoots = []string{book, "test.http.Kept", "test.three.Scalars", "test.three.Tree", "test.three.Maps", "test.three.Known", "test.three.Request", "test.two.Two", "test.edition.Edition"}

var nestedBrackets = regexp.MustCompile(`(?i)(\[|%5b)[^&=]*(\[|%5b)|(^|[&.]|%2e)(\[|%5b)`)

// queryDifferences is the whole list for parameters, against grpc-gateway's runtime.
var queryDifferences = []difference{
	{
		"unknown name", "grpc-gateway ignores names that are no field; here that is a choice",
		oursSays("names no field"),
	},
	{
		"key of a list", "grpc-gateway makes two elements of list[a]=b, the key and the value",
		oursSays("only a map is given by key"),
	},
	{
		"key that does not end", "grpc-gateway takes map[key for a name that is no field",
		oursSays("and given entry by entry, as in"),
	},
	{
		"brackets in brackets", "grpc-gateway takes m[a[b] for the key b of field m[a, which is none; it knows no names of extensions either",
		func(in []byte, _, _ error) bool { return nestedBrackets.Match(in) },
	},
	{
		"dot in a JSON name", "grpc-gateway splits a name at every dot, so that it never finds such a field",
		oursSays("odd.name: a parameter of the query is refused"),
	},
	{
		"duration", "grpc-gateway takes Go's durations in a query, this codec also the JSON form, which reaches further",
		func(_ []byte, _, theirs error) bool {
			return theirs != nil && strings.Contains(theirs.Error(), "time: invalid duration")
		},
	},
	{
		"time", "grpc-gateway takes more than nine decimals and the years beyond 9999 or before 1",
		oursSays("a time as in RFC 3339"),
	},
	{
		"ListValue", "grpc-gateway takes the JSON text of Struct and Value, not of ListValue",
		func(_ []byte, _, theirs error) bool {
			return theirs != nil && strings.Contains(theirs.Error(), `unsupported message type: "google.protobuf.ListValue"`)
		},
	},
	{
		"limits", "the limits of JSON hold in a parameter's JSON text and in its name too",
		func(in []byte, ours, _ error) bool {
			return ours != nil && (strings.Contains(ours.Error(), "nested deeper") || strings.Contains(ours.Error(), "a number of at most 64 bytes") || bareExponent.Match(in))
		},
	},
	{
		"mask", "grpc-gateway takes any text for the paths of a mask",
		oursSays("a field mask"),
	},
	{
		"whole and part", "grpc-gateway lets a message and its fields be given side by side, in the order of a map",
		func(_ []byte, ours, _ error) bool {
			return ours != nil && (strings.Contains(ours.Error(), "gives a part of it") || strings.Contains(ours.Error(), `the query gives "`))
		},
	},
	{
		"one key in two spellings", "grpc-gateway takes m[1] and m[01] for two entries, of which one is left",
		func(in []byte, ours, _ error) bool {
			return ours != nil && strings.Contains(ours.Error(), "it is given twice") && nameHasKey.Match(in)
		},
	},
	{
		"one name in two spellings", "grpc-gateway refuses a repeated field spelt in two ways",
		func(_ []byte, _, theirs error) bool {
			return theirs != nil && strings.Contains(theirs.Error(), "duplicate field")
		},
	},
	{
		"oneof", "grpc-gateway forgets a member of message type, and a second look at the same one",
		func(_ []byte, ours, theirs error) bool {
			return ours != nil && strings.Contains(ours.Error(), "oneof") || theirs != nil && strings.Contains(theirs.Error(), "oneof")
		},
	},
	{
		"form", "grpc-gateway's caller refuses semicolons, which are text here, and takes what is not UTF-8",
		func(in []byte, ours, _ error) bool {
			return ours != nil && strings.Contains(ours.Error(), "UTF-8") || strings.Contains(string(in), ";")
		},
	},
}

var nameHasKey = regexp.MustCompile(`(?i)(\[|%5b)`)

// compareQuery reads a query as m on both sides.
func (w *world) compareQuery(t *testing.T, m *schema.Message, query string, lenient bool) {
	t.Helper()
	q := &jsonwire.QueryOptions{GRPCGateway: lenient}
	params, ours := jsonwire.AppendQuery(nil, m, query, nil, q)
	checkError(t, ours, false)
	var wire []byte
	if ours == nil {
		wire, ours = jsonwire.AppendRequest([]byte(prefix), &jsonwire.Request{Message: m, Params: params}, nil)
		canary(t, wire, nil, nil)
		checkError(t, ours, false)
	}
	if m.HasRequired {
		return // grpc-gateway does not look for required fields
	}
	values, theirs := url.ParseQuery(query)
	want := dynamicpb.NewMessage(m.Desc)
	if theirs == nil {
		theirs = runtime.PopulateQueryParameters(want, values, utilities.NewDoubleArray(nil))
	}
	for key := range values {
		if strings.Contains(key, "\n") {
			return // grpc-gateway's expression for the keys of maps does not look past the end of a line
		}
	}
	if !agree(t, queryDifferences, []byte(query), ours, theirs) || nestedBrackets.MatchString(query) {
		return
	}
	if slices.ContainsFunc(params, notComparable) || lenient && strings.Contains(query, ".") && namesUnknown(m, query) {
		return
	}
	got, err := w.oracleDecode(m, wire[len(prefix):])
	if err != nil {
		t.Fatal(err)
	}
	// Through bytes: grpc-gateway puts generated messages into the dynamic one, which proto.Equal tells apart.
	raw, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.oracleDecode(m, raw)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, again) {
		t.Fatalf("%s %q\n got %v\nwant %v", m.Name, query, got, again)
	}
}

// notComparable: of a FieldMask grpc-gateway keeps the text as it is, and this codec the declared names; a JSON name with a
// dot in it grpc-gateway never finds.
func notComparable(p jsonwire.Param) bool {
	return slices.ContainsFunc(p.Field, func(f *schema.Field) bool {
		return f.Message != nil && f.Message.WellKnown == schema.FieldMask || strings.Contains(f.JSONName, ".")
	})
}

// namesUnknown: for a name that no field has, below a message, grpc-gateway sets the message.
func namesUnknown(m *schema.Message, query string) bool {
	_, err := jsonwire.AppendQuery(nil, m, query, nil, nil)
	return err != nil && strings.Contains(err.Error(), "names no field")
}

// httpSeeds are queries and forms for the shapes of http.proto.
var httpSeeds = []string{
	"labels[a]=x&labels[b.c]=y&author.links[k]=v", "notes[1]=x&notes[01]=y", "notes[\n0]=y&labels[a%0Ab]=c", "flags[true]=1&flags[0]=2&shelves[a]=NOVEL&lent[a]=2024-01-01T00:00:00Z", "labels=1", "labels[a", "labels[a[b]=1",
	"tags[a]=b&tags=c", "translators[a]=x", "empty&none={}", "empties=&empties={}", `extra={"a":1}&any_value=null&list=[1]`, `free={"a":[1,{}]}`, "read_time=1h30m&genre=2&price=-0", "read_time=1.5s&isbn=x&edition=0",
	"sequel.author.name=x&sequel.name=y&sequel.sequel.tags=a&sequel.sequel.tags=b", "odd.name=5", "genre=POEM&genre=NOVEL", "by.name=a&by.best.name=b", "map[a]=b&deeper.map[c]=d&pairs=x&struct={}", "published=2024-01-01T00:00:00%2B01:00",
}

func FuzzQuery(f *testing.F) {
	w := theWorld(f)
	if err := registerEnums(); err != nil {
		f.Fatal(err)
	}
	for i := range queryRoots {
		for n, s := range querySeeds {
			f.Add(byte(i), n%2 == 0, s)
		}
		for n, s := range httpSeeds {
			if i < 2 {
				f.Add(byte(i), n%2 == 0, s)
			}
		}
	}
	f.Fuzz(func(t *testing.T, root byte, lenient bool, query string) {
		w.compareQuery(t, w.message(t, queryRoots[int(root)%len(queryRoots)]), query, lenient)
	})
}

// FuzzForm: a form is read as the same query is, whole or into a field, and captures what no field takes.
func FuzzForm(f *testing.F) {
	w := theWorld(f)
	for n, s := range append(httpSeeds, "name=a&tags=b&tags=c&author.name=d", "a=b&a=c&name=x&d", "%zz", "name=%ff", "update_mask=a&book.name=x") {
		f.Add(byte(n), []byte(s))
	}
	captures := []string{"map", "lists", "struct", "pairs", "deeper.map", "deeper.struct"}
	f.Fuzz(func(t *testing.T, flags byte, form []byte) {
		whole, update, kept := w.message(t, book), w.message(t, "test.http.Update"), w.message(t, "test.http.Kept")
		read := func(m *schema.Message, field schema.Path, q *jsonwire.QueryOptions, asQuery bool) ([]byte, error) {
			var params []jsonwire.Param
			var err error
			if asQuery {
				params, err = jsonwire.AppendQuery(nil, m, string(form), nil, q)
			} else {
				params, err = jsonwire.AppendForm(nil, m, form, field, nil, q)
			}
			checkError(t, err, false)
			if err != nil {
				return nil, err
			}
			wire, err := jsonwire.AppendRequest(nil, &jsonwire.Request{Message: m, BodyField: field, Params: params}, nil)
			checkError(t, err, false)
			return wire, err
		}
		q := &jsonwire.QueryOptions{Unknown: jsonwire.UnknownPolicy(flags >> 4 & 1)}
		asQuery, queryErr := read(whole, nil, q, true)
		asForm, formErr := read(whole, nil, q, false)
		if (queryErr == nil) != (formErr == nil) || string(asQuery) != string(asForm) {
			t.Fatalf("%q\n as a query %x, %v\n as a form  %x, %v", form, asQuery, queryErr, asForm, formErr)
		}
		inField, fieldErr := read(update, pathOf(t, update, "book"), q, false)
		if (fieldErr == nil) != (formErr == nil) && !(fieldErr != nil && strings.Contains(fieldErr.Error(), "nested deeper")) {
			t.Fatalf("%q\n as a form     %v\n into a field  %v", form, formErr, fieldErr)
		}
		if fieldErr == nil {
			a, err := w.oracleDecode(whole, asForm)
			if err != nil {
				t.Fatal(err)
			}
			b, err := w.oracleDecode(update, inField)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.ProtoReflect().Mutable(update.ByNumber(1).Desc).Message().Interface(); !proto.Equal(a, got) {
				t.Fatalf("%q\n as a form    %v\n into a field %v", form, a, got)
			}
		}
		capture, err := jsonwire.CaptureField(kept, captures[int(flags&15)%len(captures)])
		if err != nil {
			t.Fatal(err)
		}
		wire, err := read(kept, nil, &jsonwire.QueryOptions{Unknown: jsonwire.CaptureUnknown, Capture: capture}, false)
		if err != nil {
			return
		}
		if _, err := w.oracleDecode(kept, wire); err != nil {
			t.Fatal(err)
		}
		if capture.Last().Name == "pairs" {
			holdPairs(t, w, kept, wire, form)
		}
	})
}

// holdPairs holds the field that keeps pairs against the form as net/url reads it.
func holdPairs(t *testing.T, w *world, kept *schema.Message, wire, form []byte) {
	t.Helper()
	msg, err := w.oracleDecode(kept, wire)
	if err != nil {
		t.Fatal(err)
	}
	pairs := msg.ProtoReflect().Get(kept.ByNameString("pairs").Desc).List()
	var got, want []string
	for i := range pairs.Len() {
		got = append(got, pairs.Get(i).String())
	}
	values, err := url.ParseQuery(strings.ReplaceAll(string(form), ";", "%3B"))
	if err != nil {
		t.Fatal(err)
	}
	for name, all := range values {
		for _, v := range all {
			if name == "pairs" {
				want = append(want, v)
			} else if f, _, _ := strings.Cut(name, "["); kept.ByNameString(name) == nil && kept.ByNameString(strings.SplitN(f, ".", 2)[0]) == nil {
				want = append(want, name+"="+v)
			}
		}
	}
	known := func(s string) bool { // names below deeper, struct and so on may be fields or not
		name, _, _ := strings.Cut(s, "=")
		f, _, _ := strings.Cut(name, "[")
		return strings.Contains(s, "=") && kept.ByNameString(strings.SplitN(f, ".", 2)[0]) != nil
	}
	got = slices.DeleteFunc(got, known)
	want = slices.DeleteFunc(want, known)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%q keeps %q, want %q", form, got, want)
	}
}

// FuzzMask holds the mask made from a body against grpc-gateway's. The differences are: theirs goes on into Struct and
// Value, gives the empty path for {}, and refuses an Any without a type.
func FuzzMask(f *testing.F) {
	w := theWorld(f)
	for _, s := range append(bookSeeds, jsonSeeds...) {
		f.Add([]byte(s))
	}
	m, b := w.message(f, "test.http.Update"), w.message(f, book)
	r := jsonwire.Request{Message: m, BodyField: pathOf(f, m, "book"), Mask: pathOf(f, m, "update_mask")}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := r
		r.Body = body
		wire, err := jsonwire.AppendRequest(nil, &r, nil)
		checkError(t, err, false)
		if err != nil || len(body) == 0 {
			return
		}
		msg, err := w.oracleDecode(m, wire)
		if err != nil {
			t.Fatal(err)
		}
		paths := msg.ProtoReflect().Get(m.ByNumber(2).Desc).Message()
		var got []string
		list := paths.Get(paths.Descriptor().Fields().ByNumber(1)).List()
		for i := range list.Len() {
			got = append(got, list.Get(i).String())
		}
		theirs, err := runtime.FieldMaskFromRequestBody(strings.NewReader(string(body)), dynamicpb.NewMessage(b.Desc))
		if err != nil {
			if strings.Contains(err.Error(), "could not find field @type") {
				return
			}
			t.Fatalf("%q: they say %v, ours is %q", body, err, got)
		}
		var want []string
		for _, p := range theirs.GetPaths() {
			if p = upToDynamic(b, p); p != "" {
				want = append(want, p)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		want = slices.Compact(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q\n got %q\nwant %q", body, got, want)
		}
	})
}

// upToDynamic cuts a path behind a Struct or Value.
func upToDynamic(m *schema.Message, path string) string {
	rest, n := path, 0
	for m != nil {
		part, after, more := strings.Cut(rest, ".")
		f := m.ByNameString(part)
		if f == nil || !more {
			break
		}
		n += len(part)
		if f.Message != nil && (f.Message.WellKnown == schema.Struct || f.Message.WellKnown == schema.Value) {
			return path[:n]
		}
		n++
		m, rest = f.Message, after
	}
	return path
}

// bookSeeds are bodies for test.http.Book.
var bookSeeds = []string{
	`{}`, `null`, `{"name":"n","pageCount":1,"page_count":null}`, `{"author":{"name":"a","mentor":{"links":{}}},"sequel":{"author":null,"by":{}}}`, `{"extra":{"a":{"b":1}},"anyValue":{"c":[1]},"list":[{}],"free":{}}`,
	`{"tags":["a"],"labels":{"a.b":"c"},"editors":[{"name":"x"}],"translators":{"a":{}}}`, `{"published":"1970-01-01T00:00:00Z","readTime":"1s","shown":"a,b","isbn":"x","empty":{},"none":{},"any":{"@type":"type.googleapis.com/test.http.Author"}}`,
	`{"any":{}}`, `{"odd.name":1,"genre":"POEM","price":-0.0,"edition":0}`, `{"picture":"","by":null}`, ` { "author" : { } , "name" : "\"}" } `, `{"sequel":{"sequel":{"sequel":{"author":{"best":{"author":{"name":"deep"}}}}}}}`,
	`{"by":{"name":"x","best":{"picture":"y"}},"name":"n"}`, `{"sequel":{"picture":"p","sequel":{"name":"s"}},"author":{"name":"a","fullName":"f"}}`, `{"free":null}`, `{"shown":"","edition":5,"isbn":""}`,
}

// pathVariables are fields that a path may bind.
var pathVariables = []string{
	"name", "page_count", "author.name", "shown", "published", "isbn", "extra", "any_value", "edition", "picture", "by.name", "sequel.sequel.name", "price",
	"read_time", "genre", "sequel.by.name", "sequel.picture", "list", "empty", "none", "free", "author.best.author.name", "sequel.published.seconds", "author",
}

// FuzzPath holds two variables of a path against a body: with Override, the message is the body's without what the path
// gives, and with it; without, it is the same message or a refusal, and no refusal where the body says what the path says.
func FuzzPath(f *testing.F) {
	w := theWorld(f)
	m := w.message(f, book)
	values := []string{"n", "1", "x", "a,b", "1970-01-01T00:00:00Z", "", "{}", "null", "1.5s", "[]", "POEM", "0"}
	for i, body := range bookSeeds {
		for j := range pathVariables {
			f.Add([]byte(body), byte(j), values[(i+j)%len(values)], byte(i*7), values[i%len(values)])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, first byte, a string, second byte, b string) {
		r := jsonwire.Request{Message: m, Params: []jsonwire.Param{
			{Field: pathOf(t, m, pathVariables[int(first)%len(pathVariables)]), Value: a},
			{Field: pathOf(t, m, pathVariables[int(second)%len(pathVariables)]), Value: b},
		}}
		if first == second {
			r.Params = r.Params[:1]
		}
		onlyPath, err := jsonwire.AppendRequest(nil, &r, nil)
		if err != nil {
			checkError(t, err, false)
			return
		}
		r.Body = body
		strict, strictErr := jsonwire.AppendRequest([]byte(prefix), &r, nil)
		canary(t, strict, body, body)
		checkError(t, strictErr, false)
		r.Override = true
		override, err := jsonwire.AppendRequest([]byte(prefix), &r, nil)
		canary(t, override, body, body)
		bodyWire, bodyErr := jsonwire.AppendWire(nil, body, m, nil)
		if len(body) == 0 {
			bodyErr = nil
		}
		if (err == nil) != (bodyErr == nil) {
			t.Fatalf("%q: with Override %v, the body alone %v", body, err, bodyErr)
		}
		if err != nil {
			if strictErr == nil {
				t.Fatalf("%q is refused with Override only: %v", body, err)
			}
			return
		}
		var alone, path, got proto.Message
		for _, d := range []struct {
			wire []byte
			to   *proto.Message
		}{{bodyWire, &alone}, {onlyPath, &path}, {override[len(prefix):], &got}} {
			if *d.to, err = w.oracleDecode(m, d.wire); err != nil {
				t.Fatalf("%q: %x: %v", body, d.wire, err)
			}
		}
		want := proto.Clone(alone)
		for _, p := range r.Params {
			clearPath(want.ProtoReflect(), p.Field)
		}
		proto.Merge(want, path)
		if !proto.Equal(got, want) {
			t.Fatalf("%q and %v\n got %v\nwant %v", body, show(r.Params), got, want)
		}
		switch {
		case strictErr == nil:
			if same, err := w.oracleDecode(m, strict[len(prefix):]); err != nil || !proto.Equal(same, want) {
				t.Fatalf("%q and %v\n got %v, %v\nwant %v", body, show(r.Params), same, err, want)
			}
			// What was taken without Override must hold all that the body said: nothing of it is gone.
			if both := proto.Clone(want); !strings.Contains(string(body), "shown") {
				proto.Merge(both, alone)
				if a, b := canonical(t, w, both), canonical(t, w, want); a != b && !repeats(alone) {
					t.Fatalf("%q and %v are taken, and the body's %v is lost: %v", body, show(r.Params), alone, want)
				}
			}
		case proto.Equal(alone, want):
			t.Fatalf("%q and %v say the same and are refused: %v", body, show(r.Params), strictErr)
		}
	})
}

// clearPath takes a field out of a message, and the other members of the oneofs on the way.
func clearPath(m protoreflect.Message, path schema.Path) {
	for i, f := range path {
		if of := f.Desc.ContainingOneof(); of != nil {
			if set := m.WhichOneof(of); set != nil && set != f.Desc {
				m.Clear(set)
			}
		}
		if i == len(path)-1 {
			m.Clear(f.Desc)
			return
		}
		if !m.Has(f.Desc) {
			return
		}
		m = m.Mutable(f.Desc).Message()
	}
}

// repeats says whether a message has lists or maps, which proto.Merge doubles, or values of JSON, which it joins.
func repeats(msg proto.Message) bool {
	found := false
	msg.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		found = found || f.IsList() || f.IsMap() || f.Message() != nil && repeats(v.Message().Interface())
		return true
	})
	return found
}

func canonical(t *testing.T, w *world, msg proto.Message) string {
	t.Helper()
	text, err := protojson.MarshalOptions{Resolver: w.types}.Marshal(msg)
	if err != nil {
		return "no JSON"
	}
	return compact(t, text)
}

func show(params []jsonwire.Param) string {
	var b strings.Builder
	for _, p := range params {
		b.WriteString(p.Field.String() + "=" + p.Value + " ")
	}
	return b.String()
}
