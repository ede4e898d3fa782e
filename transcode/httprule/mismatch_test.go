package httprule

import "testing"

// TestMismatch checks the words; that there are some exactly where a template does not fit is checked by checkMatch.
func TestMismatch(t *testing.T) {
	for _, c := range []struct {
		template, path string
		fits           int
		why            string
	}{
		{"/v1/{name=orders/*}", "/v1/orders/7", 3, ``},
		{"/v1/{name=orders/*}", "/v1/order/7", 1, `segment 2: wanted "orders", found "order"`},
		{"/v1/{name=orders/*}", "/v1/orders", 2, `the path ends after 2 segments, the template wants 3`},
		{"/v1/{name=orders/*}", "/v1/orders/7/x", 3, `the path has 4 segments, the template takes 3`},
		{"/", "/x", 0, `the path has 1 segment, the template takes 0`},
		{"/a/**/b/c", "/a/b", 1, `the path has 2 segments, the template wants 3 or more`},
		{"/a/**/b/c", "/a/x/b/d", 1, `segment 4: wanted "c", found "d"`},
		{"/a/*", "/a/x%2Fy", 1, `segment 2: an encoded slash may stand only in what a variable captures, found "x%2Fy"`},
		{"/a/**", "/a/x/x%2Fy/z", 2, `segment 3: an encoded slash may stand only in what a variable captures, found "x%2Fy"`},
		{"/a/{x}:go", "/a/b", 2, `wanted a path that ends in ":go", found "b"`},
		{"/a/{x}:go", "/a/b:stop", 2, `wanted a path that ends in ":go", found "b:stop"`},
		{"/{x=**}:go", "/", 0, `wanted a path that ends in ":go"`},
		{"/a/{x}:go", "/a/:go", 2, `wanted a segment before ":go"`},
		{"/a/{x}:go", "/a/..:go", 2, `segment 2: without ":go" it is a ".." segment`},
		{"/a/{x}:go", "/a/b:go", 2, ``},
	} {
		segs, err := AppendSegments(nil, c.path)
		if err != nil {
			t.Fatal(err)
		}
		if fits, why := mustParse(t, c.template).Mismatch(segs); fits != c.fits || why != c.why {
			t.Errorf("%s on %s: wanted %d, %s\nfound %d, %s", c.template, c.path, c.fits, c.why, fits, why)
		}
	}
}
