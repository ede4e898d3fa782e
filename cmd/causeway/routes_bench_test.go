//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// manyRoutes is a descriptor set of services with a thousand methods each, every one with a rule of its own.
func manyRoutes(b *testing.B, services int) []byte {
	b.Helper()
	set := descriptors.Set(annotations.File_google_api_annotations_proto)
	for s := range services {
		pkg := fmt.Sprintf("load.p%d", s)
		fd := &descriptorpb.FileDescriptorProto{
			Name: proto.String(pkg + ".proto"), Package: proto.String(pkg), Syntax: proto.String("proto3"),
			Dependency: []string{"google/api/annotations.proto"},
		}
		m := &descriptorpb.DescriptorProto{Name: proto.String("M")}
		for i, name := range []string{"id", "name", "part"} {
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: proto.String(name), Number: proto.Int32(int32(i + 1)), //nolint:gosec // small
				Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			})
		}
		sv := &descriptorpb.ServiceDescriptorProto{Name: proto.String("S")}
		for i := range 1000 {
			var rule *annotations.HttpRule
			switch i % 3 {
			case 0:
				rule = &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: fmt.Sprintf("/v1/p%d/res%d/{id}", s, i)}}
			case 1:
				rule = &annotations.HttpRule{Pattern: &annotations.HttpRule_Post{Post: fmt.Sprintf("/v2/{name=p%d/*/res%d/*}:cancel", s, i)}, Body: "*"}
			default:
				rule = &annotations.HttpRule{Pattern: &annotations.HttpRule_Patch{Patch: fmt.Sprintf("/v1/projects/{id}/p%d/res%d/{name}/parts/{part}", s, i)}, Body: "*"}
			}
			o := &descriptorpb.MethodOptions{}
			proto.SetExtension(o, annotations.E_Http, rule)
			typ := proto.String("." + pkg + ".M")
			sv.Method = append(sv.Method, &descriptorpb.MethodDescriptorProto{Name: proto.String(fmt.Sprintf("Do%d", i)), InputType: typ, OutputType: typ, Options: o})
		}
		fd.MessageType, fd.Service = []*descriptorpb.DescriptorProto{m}, []*descriptorpb.ServiceDescriptorProto{sv}
		set.File = append(set.File, fd)
	}
	raw, err := proto.Marshal(set)
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

// BenchmarkHundredThousandRoutes starts the whole gateway with 100,000 rules, from the bytes of their descriptors until it
// serves: the processor time of it, which a busy machine does not change much, and the heap that it keeps.
func BenchmarkHundredThousandRoutes(b *testing.B) {
	const services = 100
	file := filepath.Join(b.TempDir(), "all.binpb")
	if err := os.WriteFile(file, manyRoutes(b, services), 0o600); err != nil {
		b.Fatal(err)
	}
	config := fmt.Sprintf("listen: [{address: 127.0.0.1:0}]\nschemas: [{name: all, descriptor_set: %q}]\n"+
		"services: [{name: all, schema: all, endpoints: [{address: '127.0.0.1:1'}]}]\n", file)
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := used()
		g := startGateway(b, config)
		took := used() - start
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(took.Seconds(), "cpu-s")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		b.ReportMetric(0, "ns/op")
		for path, status := range map[string]int{"/v1/p99/res999/x": 503, "/v1/p0/res0/x": 503, "/v1/p99/res998/x": 404} { // nobody listens behind it
			if a := g.call("GET", path, ""); a.status != status {
				b.Errorf("%s: want %d, found %d %s", path, status, a.status, a.body)
			}
		}
		g.endNow()
	}
}
