package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/causeway-gateway/causeway/proxy/config"
)

func TestRuleFaults(t *testing.T) {
	n := golden(t, "testdata/rules", "error", func(t *testing.T, _ string) string {
		_, err := config.LoadRules("rules.yaml")
		if err == nil {
			t.Fatal("want faults, found none")
		}
		return err.Error() + "\n"
	})
	if n < 5 {
		t.Errorf("found %d cases", n)
	}
}

func TestLoadRules(t *testing.T) {
	got, err := config.LoadRules("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &annotations.Http{FullyDecodeReservedExpansion: true, Rules: []*annotations.HttpRule{
		{Selector: "a.B.C", Pattern: &annotations.HttpRule_Get{Get: "/v1/{name=a/*}"}, AdditionalBindings: []*annotations.HttpRule{
			{Pattern: &annotations.HttpRule_Post{Post: "/v1/{name=a/*}:get"}, Body: "*"},
		}},
		{Selector: "a.B.D", Pattern: &annotations.HttpRule_Custom{Custom: &annotations.CustomHttpPattern{Kind: "HEAD", Path: "/v1/a"}}, ResponseBody: "x"},
	}}
	if d := cmp.Diff(want, got.HTTP, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	if s := got.Fault(1, "wrong").Summary(); s != "testdata/rules.yaml:19:7: http.rules[1]: wrong" {
		t.Errorf("a fault at the second rule reads %q", s)
	}
	if _, err := config.LoadRules("testdata/nowhere.yaml"); err == nil {
		t.Error("want a fault for a file that is not there")
	}
}
