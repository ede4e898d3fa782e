package jsonwire_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// protobuf's conformance suite, see testdata/conformance: a runner asks a testee, which is this test binary, to translate,
// and judges the answers. What it asked, and the answers that it took, are recorded, so that every run of the tests can do
// without the runner.
const (
	conformanceFolder = "../../testdata/conformance"
	recordedFile      = "recorded.gz"
	// conformanceEnv makes this binary the testee; its value is the file that takes what went by.
	conformanceEnv = "CAUSEWAY_CONFORMANCE"
)

// TestMain also makes the test binary act as the testee of the conformance suite.
func TestMain(m *testing.M) {
	if file := os.Getenv(conformanceEnv); file != "" {
		if err := testee(os.Stdin, os.Stdout, file); err != nil {
			fmt.Fprintln(os.Stderr, "conformance testee:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// conformanceWorld is the schema that the suite's messages are from, the protocol between runner and testee included. One
// message of it, which no case sends, has the retired form of MessageSet, which protobuf-go does not load; here it is a plain
// message.
var conformanceWorld = sync.OnceValues(func() (*world, error) {
	open := func(name string) (io.ReadCloser, error) {
		text, err := os.ReadFile(filepath.Join(conformanceFolder, name))
		return io.NopCloser(bytes.NewReader(bytes.ReplaceAll(text, []byte("option message_set_wire_format = true;"), nil))), err
	}
	return newWorld(open, "conformance.proto", "test_messages_proto2.proto", "test_messages_proto3.proto")
})

// exchange is one request of the runner and the testee's answer, both as they went over the pipe.
type exchange struct {
	name              string
	request, response []byte
}

// protocol reads and makes the messages between runner and testee.
type protocol struct {
	*world
	request, response protoreflect.MessageDescriptor
}

func newProtocol() (*protocol, error) {
	w, err := conformanceWorld()
	if err != nil {
		return nil, err
	}
	p := &protocol{world: w}
	for name, md := range map[string]*protoreflect.MessageDescriptor{"Request": &p.request, "Response": &p.response} {
		mt, err := w.types.FindMessageByName("conformance.Conformance" + protoreflect.FullName(name))
		if err != nil {
			return nil, err
		}
		*md = mt.Descriptor()
	}
	return p, nil
}

// question is what a request asks for.
type question struct {
	message       string
	payload       protoreflect.Name // the member of the request's oneof that is set
	in            []byte
	out           protoreflect.Name
	ignoreUnknown bool
}

// touchesJSON says whether JSON is what goes in or what comes out.
func (q question) touchesJSON() bool { return q.payload == "json_payload" || q.out == "JSON" }

func (p *protocol) question(raw []byte) (q question, err error) {
	m := dynamicpb.NewMessage(p.request)
	if err := proto.Unmarshal(raw, m); err != nil {
		return q, err
	}
	fds := p.request.Fields()
	number := func(name protoreflect.Name) protoreflect.Name {
		fd := fds.ByName(name)
		v := fd.Enum().Values().ByNumber(m.Get(fd).Enum())
		if v == nil {
			return ""
		}
		return v.Name()
	}
	q.message = m.Get(fds.ByName("message_type")).String()
	q.out = number("requested_output_format")
	q.ignoreUnknown = number("test_category") == "JSON_IGNORE_UNKNOWN_PARSING_TEST"
	if fd := m.WhichOneof(p.request.Oneofs().ByName("payload")); fd != nil {
		q.payload = fd.Name()
		if v := m.Get(fd); fd.Kind() == protoreflect.BytesKind {
			q.in = v.Bytes()
		} else {
			q.in = []byte(v.String())
		}
	}
	return q, nil
}

// result makes a response with one member of its oneof set.
func (p *protocol) result(member protoreflect.Name, content []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(p.response)
	fd := p.response.Fields().ByName(member)
	if fd.Kind() == protoreflect.BytesKind {
		m.Set(fd, protoreflect.ValueOfBytes(content))
	} else {
		m.Set(fd, protoreflect.ValueOfString(string(content)))
	}
	return proto.Marshal(m)
}

// answer has the codec do what is asked for. What it has no part in is skipped.
func (p *protocol) answer(q question) ([]byte, error) {
	m, ok := p.schema.Message(q.message)
	if !ok || !q.touchesJSON() {
		return p.result("skipped", []byte("no JSON in it"))
	}
	wire := q.in
	switch q.payload {
	case "json_payload":
		var err error
		if wire, err = jsonwire.AppendWire(nil, q.in, m, &jsonwire.Options{IgnoreUnknown: q.ignoreUnknown}); err != nil {
			return p.result("parse_error", []byte(err.Error()))
		}
	case "protobuf_payload":
	default:
		return p.result("skipped", []byte("neither JSON nor protobuf goes in"))
	}
	switch q.out {
	case "PROTOBUF":
		return p.result("protobuf_payload", wire)
	case "JSON":
		text, err := jsonwire.AppendJSON(nil, wire, m, nil)
		if err != nil {
			return p.result("serialize_error", []byte(err.Error()))
		}
		return p.result("json_payload", text)
	}
	return p.result("skipped", []byte("neither JSON nor protobuf comes out"))
}

// testee answers requests, each with its length before it, until there are no more. What went by is added to a file.
func testee(in io.Reader, out io.Writer, file string) error {
	p, err := newProtocol()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); errors.Is(err, io.EOF) {
			return log.Close()
		} else if err != nil {
			return err
		}
		request := make([]byte, binary.LittleEndian.Uint32(size[:]))
		if _, err := io.ReadFull(in, request); err != nil {
			return err
		}
		q, err := p.question(request)
		if err != nil {
			return err
		}
		response, err := p.answer(q)
		if err != nil {
			return err
		}
		if err := write(log, exchange{"-", request, response}); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(size[:], uint32(len(response)))
		if _, err := out.Write(append(size[:], response...)); err != nil {
			return err
		}
	}
}

// write adds an exchange to a record: a line with its name and, in base64, what went to and fro.
func write(w io.Writer, e exchange) error {
	enc := base64.StdEncoding
	_, err := fmt.Fprintf(w, "%s %s %s\n", e.name, enc.EncodeToString(e.request), enc.EncodeToString(e.response))
	return err
}

// read is the inverse of write.
func read(t *testing.T, r io.Reader) (all []exchange) {
	t.Helper()
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		part := strings.Split(s.Text(), " ")
		if len(part) != 3 {
			t.Fatalf("not a line of a record: %q", s.Text())
		}
		e := exchange{name: part[0]}
		for to, text := range map[*[]byte]string{&e.request: part[1], &e.response: part[2]} {
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			*to = b
		}
		all = append(all, e)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// recorded are the exchanges that the runner has judged good.
func recorded(t *testing.T) []exchange {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join(conformanceFolder, recordedFile))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	return read(t, z)
}

func theProtocol(t *testing.T) *protocol {
	t.Helper()
	p, err := newProtocol()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// conformanceCases is how many cases of the suite have JSON in them; a record with fewer would hide something.
const conformanceCases = 715

// TestConformance replays the recorded requests. An answer must be the one that the runner took: byte for byte, or, where
// it is a refusal, a refusal of the same kind. That does not depend on the codec's own view, since the runner judged it. And
// it must be what protojson says of the same input.
func TestConformance(t *testing.T) {
	p := theProtocol(t)
	all := recorded(t)
	if len(all) != conformanceCases {
		t.Fatalf("%d cases are recorded, want %d", len(all), conformanceCases)
	}
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) { p.replay(t, e) })
	}
}

func (p *protocol) replay(t *testing.T, e exchange) {
	t.Helper()
	q, err := p.question(e.request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.answer(q)
	if err != nil {
		t.Fatal(err)
	}
	p.sameAnswer(t, q, response, e.response)
	m := p.message(t, q.message)
	if q.payload == "json_payload" {
		p.compareJSON(t, m, q.in, q.ignoreUnknown)
	} else {
		p.compareWire(t, m, q.in, 0)
	}
}

// sameAnswer holds a response to the one that the runner took.
func (p *protocol) sameAnswer(t *testing.T, q question, got, want []byte) {
	t.Helper()
	gotKind, gotContent := p.member(t, got)
	wantKind, wantContent := p.member(t, want)
	refused := strings.HasSuffix(string(wantKind), "_error")
	if gotKind != wantKind || !refused && !bytes.Equal(gotContent, wantContent) {
		t.Fatalf("%s %q\n got %s %q\nwant %s %q", q.message, q.in, gotKind, gotContent, wantKind, wantContent)
	}
}

// member gives the one member that is set in a response.
func (p *protocol) member(t *testing.T, raw []byte) (member protoreflect.Name, content []byte) {
	t.Helper()
	m := dynamicpb.NewMessage(p.response)
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	fd := m.WhichOneof(p.response.Oneofs().ByName("result"))
	if fd == nil {
		t.Fatalf("a response without result: %x", raw)
	}
	if v := m.Get(fd); fd.Kind() == protoreflect.BytesKind {
		return fd.Name(), v.Bytes()
	}
	return fd.Name(), []byte(m.Get(fd).String())
}

var (
	caseLine  = regexp.MustCompile(`(?m)^conformance test: name=(\S+), request=`)
	suiteLine = regexp.MustCompile(`(?m)^CONFORMANCE SUITE (PASSED|FAILED): (\d+) successes, \d+ skipped, (\d+) expected failures, (\d+) unexpected failures\.$`)
	faultLine = regexp.MustCompile(`(?m)^ERROR, test=.*$`)
)

// TestTestee has the testee answer over a pipe, as the runner would ask it.
func TestTestee(t *testing.T) {
	p := theProtocol(t)
	all := recorded(t)
	var in, out bytes.Buffer
	for _, e := range all {
		in.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(e.request))))
		in.Write(e.request)
	}
	log := filepath.Join(t.TempDir(), "exchanges")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := testee(&in, &out, log); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	logged := read(t, bytes.NewReader(text))
	if len(logged) != len(all) {
		t.Fatalf("%d exchanges are noted, want %d", len(logged), len(all))
	}
	for i, e := range all {
		size := binary.LittleEndian.Uint32(out.Next(4))
		response := bytes.Clone(out.Next(int(size)))
		if !bytes.Equal(logged[i].request, e.request) || !bytes.Equal(logged[i].response, response) {
			t.Fatalf("%s: what is noted is not what went by", e.name)
		}
		q, err := p.question(e.request)
		if err != nil {
			t.Fatal(err)
		}
		p.sameAnswer(t, q, response, e.response)
	}
	if out.Len() > 0 {
		t.Errorf("%d bytes are left", out.Len())
	}
}

// TestProofConformance has the runner itself judge the codec, by what the suite demands and what it recommends. Without
// CAUSEWAY_PROOF=1 the record stands for the runner; with CAUSEWAY_REFRESH=conformance besides, the record is written anew.
func TestProofConformance(t *testing.T) {
	if os.Getenv("CAUSEWAY_PROOF") != "1" {
		p, all := theProtocol(t), recorded(t)
		for _, e := range all {
			p.replay(t, e)
		}
		t.Logf("PROOF protobuf conformance: %d recorded cases touch JSON, %[1]d passed, 0 failed", len(all))
		return
	}
	p := theProtocol(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "exchanges")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(conformanceFolder, "run"), self)
	cmd.Env = append(os.Environ(), conformanceEnv+"="+log)
	out, failed := cmd.CombinedOutput()
	for _, l := range faultLine.FindAllString(string(out), 50) {
		t.Error(l)
	}
	names := caseLine.FindAllSubmatch(out, -1)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	all := read(t, bytes.NewReader(text))
	suites := suiteLine.FindAllSubmatch(out, -1)
	if failed != nil || len(suites) == 0 || len(names) != len(all) {
		t.Fatalf("the runner failed: %v; %d suites, %d names, %d exchanges\n%s", failed, len(suites), len(names), len(all), out[max(0, len(out)-3000):])
	}
	var record bytes.Buffer
	touched, answered, passed := 0, 0, 0
	for i, e := range all {
		e.name = string(names[i][1])
		q, err := p.question(e.request)
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := p.member(t, e.response); kind != "skipped" {
			answered++
		}
		if !q.touchesJSON() {
			continue
		}
		if strings.Contains(e.name, ".JsonInput.") != (q.payload == "json_payload") && strings.Contains(e.name, "Input.") {
			t.Fatalf("%s is not the name of a case with %s", e.name, q.payload)
		}
		touched++
		if err := write(&record, e); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range suites {
		var n int
		if _, err := fmt.Sscan(string(s[2]), &n); err != nil {
			t.Fatal(err)
		}
		passed += n
		if string(s[1]) != "PASSED" || string(s[3]) != "0" || string(s[4]) != "0" {
			t.Errorf("%s", s[0])
		}
	}
	if touched != conformanceCases || answered != touched || passed != touched {
		t.Errorf("%d cases touch JSON, want %d; %d were answered, %d passed", touched, conformanceCases, answered, passed)
	}
	t.Logf("PROOF protobuf conformance: %d cases touch JSON, %d passed, %d failed", touched, passed, touched-passed)
	if os.Getenv("CAUSEWAY_REFRESH") == "conformance" && !t.Failed() {
		refresh(t, record.Bytes())
	}
}

// refresh writes the record.
func refresh(t *testing.T, text []byte) {
	t.Helper()
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conformanceFolder, recordedFile), packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
