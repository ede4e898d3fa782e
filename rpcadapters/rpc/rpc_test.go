package rpc

import (
	"math"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestCodeName(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.OK: "OK", codes.Canceled: "CANCELLED", codes.NotFound: "NOT_FOUND", codes.Unauthenticated: "UNAUTHENTICATED",
		17: "UNKNOWN", math.MaxUint32: "UNKNOWN",
	} {
		if got := CodeName(code); got != want {
			t.Errorf("code %d is %q, want %q", uint32(code), got, want)
		}
	}
	// grpc's own decoder knows the names.
	for i := range codeNames {
		var c codes.Code
		if err := c.UnmarshalJSON([]byte(`"` + CodeName(codes.Code(i)) + `"`)); err != nil || int(c) != i {
			t.Errorf("%q is code %d (%v), want %d", codeNames[i], c, err, i)
		}
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(10)
	if !b.Take(6) || b.Take(5) || b.Used() != 6 || !b.Take(4) {
		t.Fatalf("want 10 bytes to be had, and no more: %d held", b.Used())
	}
	b.Give(10)
	b.SetLimit(3)
	if b.Take(4) || !b.Take(3) || b.Used() != 3 {
		t.Errorf("want the new limit to hold: %d held", b.Used())
	}
	var none *Budget
	if none.Give(1); !none.Take(1<<30) || none.Used() != 0 {
		t.Error("want no budget to have no bound")
	}
}
