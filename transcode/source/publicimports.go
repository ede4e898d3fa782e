package source

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxPublicWays bounds the ways along which files are seen through public imports. Linking walks each of them for every
// file, and thirty files that import one another publicly have a million.
const maxPublicWays = 200_000

// importGraph holds what files import, to count those ways before anything is linked.
type importGraph map[string]fileImports

type fileImports struct {
	all    []string
	public []int32 // indices into all
}

func (g importGraph) add(fd *descriptorpb.FileDescriptorProto) {
	g[fd.GetName()] = fileImports{all: fd.GetDependency(), public: fd.GetPublicDependency()}
}

// addWire is add for a file that is not decoded. Broken bytes are left for the decoder to find.
func (g importGraph) addWire(b []byte) {
	const dependency, publicDependency = 3, 10
	var f fileImports
	for rest := b; len(rest) > 0; {
		num, typ, n := protowire.ConsumeField(rest)
		if n < 0 {
			return
		}
		_, _, tag := protowire.ConsumeTag(rest)
		val := rest[tag:n]
		rest = rest[n:]
		switch {
		case num == dependency && typ == protowire.BytesType:
			s, _ := protowire.ConsumeString(val)
			f.all = append(f.all, s)
		case num == publicDependency && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(val)
			f.public = append(f.public, int32(v)) //nolint:gosec // an index that is out of range counts for nothing
		case num == publicDependency && typ == protowire.BytesType:
			packed, _ := protowire.ConsumeBytes(val)
			for len(packed) > 0 {
				v, n := protowire.ConsumeVarint(packed)
				if n < 0 {
					break
				}
				f.public = append(f.public, int32(v)) //nolint:gosec // as above
				packed = packed[n:]
			}
		}
	}
	g[peekName(b)] = f
}

// check refuses a graph whose public imports multiply. Cycles are somebody else's fault to tell and end the count.
func (g importGraph) check() error {
	ways := make(map[string]int, len(g))
	entered := map[string]bool{}
	var count func(name string) int
	count = func(name string) int {
		if n, ok := ways[name]; ok || entered[name] {
			return n
		}
		entered[name] = true
		f, n := g[name], 0
		for _, i := range f.public {
			if i >= 0 && int(i) < len(f.all) {
				n += 1 + count(f.all[i])
			}
			if n > maxPublicWays {
				break
			}
		}
		ways[name] = n
		return n
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(g)) {
		for _, dep := range g[name].all {
			if total += count(dep); total > maxPublicWays {
				return fmt.Errorf("%s: public imports reach other files along more than %d ways; import files where they are used",
					name, maxPublicWays)
			}
		}
	}
	return nil
}
