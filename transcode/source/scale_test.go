package source_test

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// manyMethods is a set of 100 files, each a service of methods/100 methods with request and response messages of eight
// fields and an HTTP rule.
func manyMethods(tb testing.TB, methods int) []byte {
	tb.Helper()
	const files = 100
	kinds := []descriptorpb.FieldDescriptorProto_Type{
		descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT64,
		descriptorpb.FieldDescriptorProto_TYPE_BOOL, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
		descriptorpb.FieldDescriptorProto_TYPE_BYTES, descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	}
	message := func(name string) *descriptorpb.DescriptorProto {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for i := range 8 {
			f := &descriptorpb.FieldDescriptorProto{
				Name: proto.String(fmt.Sprintf("field_number_%d", i+1)), Number: proto.Int32(int32(i + 1)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			switch i {
			case 6:
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".google.protobuf.Timestamp")
			case 7:
				f.Type, f.Label = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			default:
				f.Type = kinds[i].Enum()
			}
			m.Field = append(m.Field, f)
		}
		return m
	}
	fds := make([]*descriptorpb.FileDescriptorProto, files)
	for i := range fds {
		pkg := fmt.Sprintf("scale.pkg%d.v1", i)
		sv := &descriptorpb.ServiceDescriptorProto{Name: proto.String("Service")}
		fd := &descriptorpb.FileDescriptorProto{
			Name: proto.String(strings.ReplaceAll(pkg, ".", "/") + ".proto"), Package: proto.String(pkg), Syntax: proto.String("proto3"),
			Dependency: []string{"google/protobuf/timestamp.proto", "google/api/annotations.proto"},
			Service:    []*descriptorpb.ServiceDescriptorProto{sv},
		}
		for j := range methods / files {
			opts := &descriptorpb.MethodOptions{}
			proto.SetExtension(opts, annotations.E_Http, &annotations.HttpRule{
				Pattern: &annotations.HttpRule_Post{Post: fmt.Sprintf("/v1/pkg%d/{field_number_1}:do%d", i, j)}, Body: "*",
			})
			in, out := fmt.Sprintf("Do%dRequest", j), fmt.Sprintf("Do%dResponse", j)
			fd.MessageType = append(fd.MessageType, message(in), message(out))
			sv.Method = append(sv.Method, &descriptorpb.MethodDescriptorProto{
				Name: proto.String(fmt.Sprintf("Do%d", j)), InputType: proto.String("." + pkg + "." + in), OutputType: proto.String("." + pkg + "." + out),
				Options: opts,
			})
		}
		fds[i] = fd
	}
	return marshalSet(tb, fds...)
}

// TestTenThousandMethods: from bytes to tables in at most 300 MiB of heap above what was there before. The time is
// printed and is 3s or less on an idle machine; a loaded one may take any, so it fails nothing.
func TestTenThousandMethods(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector multiplies the heap")
	}
	const methods = 10_000
	data := manyMethods(t, methods)
	start := time.Now()
	timed, err := source.DescriptorSet(data, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := timed.Schema(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)

	// Garbage is collected early, so that the peak is what is in use and not when the collector happened to run.
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop, peak := make(chan struct{}), uint64(0)
	var sampling sync.WaitGroup
	sampling.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	set, err := source.DescriptorSet(data, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := set.Schema()
	close(stop)
	sampling.Wait()
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(set)
	got := 0
	for _, sv := range compiled.Services() {
		got += len(sv.Methods)
	}
	if got != methods {
		t.Errorf("%d methods, want %d", got, methods)
	}
	heap, retained := int64(peak)-int64(before.HeapAlloc), int64(after.HeapAlloc)-int64(before.HeapAlloc)
	t.Logf("%d methods, %.1f MiB on the wire: %v, heap at its peak %d MiB, retained %d MiB",
		methods, float64(len(data))/(1<<20), took.Round(time.Millisecond), heap>>20, retained>>20)
	if heap > 300<<20 {
		t.Errorf("heap at its peak: %d MiB, want 300 or less", heap>>20)
	}
	runtime.KeepAlive(compiled)
}

func BenchmarkTenThousandMethods(b *testing.B) {
	data := manyMethods(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		set, err := source.DescriptorSet(data, source.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := set.Schema(); err != nil {
			b.Fatal(err)
		}
	}
}
