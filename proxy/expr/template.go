package expr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Template is text with parts that are made of a call: "Bearer {{ metadata['x-token'] }}". It may be used by many goroutines
// at once.
type Template struct {
	text  string
	parts []part
}

// part is plain text, and what stands behind it.
type part struct {
	plain string
	value *Program // nil: nothing
}

// errOpen is the error of an expression that does not end.
var errOpen = errors.New("{{ without }}")

// ParseTemplate compiles a template. What stands between {{ and }} is an expression as Text takes it; braces and quotes within
// one are paired. The error names what is wrong, and where.
func ParseTemplate(text string) (*Template, error) {
	t := &Template{text: text}
	for rest := text; rest != ""; {
		plain, after, found := strings.Cut(rest, "{{")
		if !found {
			t.parts = append(t.parts, part{plain: plain})
			break
		}
		end := closing(after)
		if end < 0 {
			return nil, fmt.Errorf("column %d: %w", len(text)-len(after)-1, errOpen)
		}
		if strings.TrimSpace(after[:end]) == "" {
			return nil, fmt.Errorf("column %d: nothing between {{ and }}", len(text)-len(after)-1)
		}
		value, err := Text(strings.TrimSpace(after[:end]))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", strings.TrimSpace(after[:end]), err)
		}
		t.parts = append(t.parts, part{plain, value})
		rest = after[end+2:]
	}
	return t, nil
}

// closing is where the }} that ends an expression begins, -1 where none does.
func closing(s string) int {
	depth := 0
	var quote byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}' && i+1 < len(s) && s[i+1] == '}':
			return i
		}
	}
	return -1
}

// String is the template as it was written.
func (t *Template) String() string { return t.text }

// Constant is the text of a template that has no expression.
func (t *Template) Constant() (text string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].value == nil:
		return t.parts[0].plain, true
	}
	return "", false
}

// Prefix is what every text of the template begins with: all that stands in front of its first expression.
func (t *Template) Prefix() string {
	if len(t.parts) == 0 {
		return ""
	}
	return t.parts[0].plain
}

// AfterAnswer tells whether the template asks for the answer, which is known at the end of a call only.
func (t *Template) AfterAnswer() bool {
	for _, p := range t.parts {
		if p.value != nil && p.value.AfterAnswer() {
			return true
		}
	}
	return false
}

// Identity tells whether the template asks for who calls: the consumer, or claims of a token.
func (t *Template) Identity() bool {
	for _, p := range t.parts {
		if p.value != nil && p.value.who {
			return true
		}
	}
	return false
}

// Suits is Program.Suits for the expressions in the template.
func (t *Template) Suits(m *schema.Method) *Misfit {
	var found *Misfit
	for _, p := range t.parts {
		if p.value == nil {
			continue
		}
		if f := p.value.Suits(m); f != nil && (found == nil || f.Always && !found.Always) {
			found = f
		}
	}
	return found
}

// Text writes the template over a call; sent is nil before its end.
func (t *Template) Text(ctx context.Context, c *rpc.Call, sent *rpc.Sent) (string, error) {
	if text, ok := t.Constant(); ok {
		return text, nil
	}
	if len(t.parts) == 1 && t.parts[0].plain == "" {
		return t.parts[0].value.Text(ctx, c, sent)
	}
	b := make([]byte, 0, 2*len(t.text))
	for _, p := range t.parts {
		b = append(b, p.plain...)
		if p.value == nil {
			continue
		}
		v, err := p.value.Text(ctx, c, sent)
		if err != nil {
			return "", err
		}
		b = append(b, v...)
	}
	return string(b), nil
}
