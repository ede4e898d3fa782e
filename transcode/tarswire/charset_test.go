package tarswire_test

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// TestCharset: text in GBK, and what is not.
func TestCharset(t *testing.T) {
	for gbk, text := range map[string]string{
		"": "", "plain": "plain", "\xc4\xe3\xba\xc3": "你好", "a\xc4\xe3b": "a你b", strings.Repeat("\xca\xc0", 5000): strings.Repeat("世", 5000),
	} {
		if got := tarswire.FromCharset([]byte("x"), []byte(gbk), tarswire.GBK); string(got) != "x"+text {
			t.Errorf("%x: found %q", gbk, got)
		}
		if got := tarswire.ToCharset([]byte("x"), []byte(text), tarswire.GBK); string(got) != "x"+gbk {
			t.Errorf("%q: found %x", text, got)
		}
	}
	if got := tarswire.FromCharset(nil, []byte("a\xff\xff"), tarswire.GBK); !strings.HasPrefix(string(got), "a\uFFFD") {
		t.Errorf("found %q", got)
	}
	if got := tarswire.FromCharset(nil, []byte("a\xff"), tarswire.UTF8); string(got) != "a\uFFFD" {
		t.Errorf("found %q", got)
	}
	if got := tarswire.ToCharset(nil, []byte("a😀b"), tarswire.GBK); string(got) != "a?b" {
		t.Errorf("found %q", got)
	}
	m := table(t, compile(t, `module M { struct S { 0 require string s; 1 optional string d = "默认"; 2 optional vector<string> l; }; };`), "M.S")
	o := &tarswire.Options{Charset: tarswire.GBK}
	body := tarswire.AppendString(nil, 0, "\xc4\xe3")
	wire, err := tarswire.AppendWire(nil, body, m, o)
	if err != nil || inJSON(t, wire, m) != `{"s":"你","d":"默认"}` {
		t.Errorf("found %s, %v", inJSON(t, wire, m), err)
	}
	back, err := tarswire.AppendTARS(nil, wire, m, o)
	if want := tarswire.AppendString(body, 1, "\xc4\xac\xc8\xcf"); err != nil || string(back) != string(want) {
		t.Errorf("want %x, found %x, %v", want, back, err)
	}
	long := tarswire.AppendString(nil, 0, strings.Repeat("\xc4\xe3", 200)) // in UTF-8 it needs a longer length
	if wire, err = tarswire.AppendWire(nil, long, m, o); err != nil || !strings.Contains(inJSON(t, wire, m), strings.Repeat("你", 200)) {
		t.Errorf("found %s, %v", inJSON(t, wire, m), err)
	}
	if back, err = tarswire.AppendTARS(nil, wire, m, o); err != nil || !strings.HasPrefix(string(back), string(long)) {
		t.Errorf("found %x, %v", back, err)
	}
	if _, err := tarswire.AppendWire(nil, tarswire.AppendString(nil, 0, "\xff\xff"), m, o); err == nil || err.Error() != "s: wanted text in GBK, found bytes that are not before offset 4" {
		t.Errorf("found %v", err)
	}
}
