package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is one thing that is wrong with a document, where, and what mends it.
type Fault struct {
	// File is the file's name as it was given; empty for a document made in memory.
	File string
	// Line and Column count from 1, Column in characters. 0: the fault is about the whole file, or has no position.
	Line, Column int
	// Path is the value's field path: "routes[0].service". Empty for the whole document. List indexes count through
	// all fragments of a folder.
	Path string
	// Message says what was wanted and what was found; one line.
	Message string
	// Fix says what to do; one line, or empty.
	Fix string
	// Source is the line, Before the line before it; tokens written in them are masked.
	Source, Before string

	width int // characters to underline
	cause error
}

// WithFix sets what mends the fault and returns it.
func (f *Fault) WithFix(fix string) *Fault {
	f.Fix = fix
	return f
}

// Unwrap returns what the operating system said, for a file that could not be read.
func (f *Fault) Unwrap() error { return f.cause }

// Summary is the fault in one line: position and message.
func (f *Fault) Summary() string {
	switch {
	case f.File == "":
		return f.Message
	case f.Line == 0:
		return f.File + ": " + f.Message
	default:
		return f.File + ":" + strconv.Itoa(f.Line) + ":" + strconv.Itoa(f.Column) + ": " + f.Message
	}
}

// Error is the fault as people read it: position and message, the line with a mark under the value, the fix.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Summary())
	if f.Line > 0 && f.Source != "" {
		if strings.TrimSpace(f.Before) != "" {
			fmt.Fprintf(&b, "\n%7d | %s", f.Line-1, window(f.Before, 1))
		}
		line, column := clip(f.Source, f.Column)
		fmt.Fprintf(&b, "\n%7d | %s\n        | %s", f.Line, line, underline(line, column, f.width))
	}
	if f.Fix != "" {
		b.WriteString("\nfix: ")
		b.WriteString(f.Fix)
	}
	return b.String()
}

const (
	maxShown = 120 // characters of a line
	ellipsis = "..."
)

// clip cuts a long line down to what stands around the column, and returns the column in what is left.
func clip(line string, column int) (string, int) {
	if utf8.RuneCountInString(line) <= maxShown {
		return line, column
	}
	runes := []rune(line)
	from := max(0, min(column-1-maxShown/2, len(runes)-maxShown))
	to := min(len(runes), from+maxShown)
	out, col := string(runes[from:to]), column-from
	if from > 0 {
		out, col = ellipsis+out, col+len(ellipsis)
	}
	if to < len(runes) {
		out += ellipsis
	}
	return out, col
}

func window(line string, column int) string {
	out, _ := clip(line, column)
	return out
}

// underline puts width marks under the column; tabs stay tabs, so that the marks stand where the terminal shows it.
func underline(line string, column, width int) string {
	var b strings.Builder
	rest := line
	for range column - 1 {
		r, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	width = min(width, utf8.RuneCountInString(rest))
	b.WriteString(strings.Repeat("^", max(1, width)))
	return b.String()
}

// Faults is everything that is wrong with a document, in the order of the files and lines.
type Faults []*Fault

// maxPrinted bounds what Error prints; a generated document can be wrong in every line.
const maxPrinted = 50

// Error prints all faults, an empty line between two.
func (fs Faults) Error() string {
	parts := make([]string, 0, len(fs)+1)
	for i, f := range fs {
		if i == maxPrinted {
			parts = append(parts, fmt.Sprintf("... and %d more faults", len(fs)-i))
			break
		}
		parts = append(parts, f.Error())
	}
	return strings.Join(parts, "\n\n")
}

// Unwrap returns the faults one by one, for errors.Is and errors.As.
func (fs Faults) Unwrap() []error {
	out := make([]error, len(fs))
	for i, f := range fs {
		out[i] = f
	}
	return out
}

// sorted orders the faults by position, and keeps one of those that say the same of the same place: an alias is read once
// per use. The result is nil as an error when there is none.
func (fs Faults) sorted() error {
	if len(fs) == 0 {
		return nil
	}
	type said struct {
		file         string
		line, column int
		message      string
	}
	seen := make(map[said]bool, len(fs))
	kept := make(Faults, 0, len(fs))
	for _, f := range fs {
		s := said{f.File, f.Line, f.Column, strings.TrimPrefix(f.Message, f.Path)}
		if f.Line == 0 || !seen[s] {
			kept = append(kept, f)
		}
		seen[s] = true
	}
	slices.SortStableFunc(kept, func(a, b *Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return kept
}

// tokenKey finds the keys of tokens and other secrets, and the headers that carry them: also in what could not be read.
var tokenKey = regexp.MustCompile(`(?i)\b(?:token|password|password_hash|secrets?|secret_base64|key_sha256|authorization|x-api-key)["']?[ \t]*:[ \t]*`)

// secretAbove finds such a key in front of a block.
var secretAbove = regexp.MustCompile(`^(?:token|password|password_hash|secrets?|secret_base64|key_sha256)\b`)

// shown is a line as faults print it: tokens that were written into the file are masked, since faults are logged. The mask
// is as long as the token, so that columns stay right. The last lines are kept: a document in one line can have many
// faults.
func (s *source) shown(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.masked[n&1].line != n {
		s.masked[n&1].line, s.masked[n&1].text = n, s.maskTokens(n)
	}
	return s.masked[n&1].text
}

func (s *source) maskTokens(n int) string {
	line := s.line(n)
	indent := indentOf(line)
	const most = 100                                        // lines of one token
	for k := n - 1; k > max(0, n-most) && indent > 0; k-- { // a token may go on below its key
		above := s.line(k)
		if strings.TrimSpace(above) == "" || indentOf(above) >= indent {
			continue
		}
		if secretAbove.MatchString(strings.TrimLeft(above, " -\"'")) {
			return line[:indent] + strings.Repeat("*", utf8.RuneCountInString(line[indent:]))
		}
		break
	}
	var b strings.Builder
	done := 0
	for _, at := range tokenKey.FindAllStringIndex(line, -1) {
		if at[0] < done {
			continue
		}
		value := line[at[1]:]
		value = value[:tokenLen(value, strings.Contains(line[:at[0]], "{"))]
		b.WriteString(line[done:at[1]])
		done = at[1] + len(value)
		if strings.Contains(value, "${") {
			b.WriteString(value)
		} else {
			b.WriteString(strings.Repeat("*", utf8.RuneCountInString(value)))
		}
	}
	b.WriteString(line[done:])
	return b.String()
}

// tokenLen is the length of the scalar at the beginning of s; flow: inside braces.
func tokenLen(s string, flow bool) int {
	end := len(s)
	if strings.HasPrefix(s, `"`) || strings.HasPrefix(s, `'`) {
		return quotedLen(s)
	}
	if strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[") { // several: all of them, also where a bracket is missing
		depth := 0
		for i := range len(s) {
			switch s[i] {
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(s)
	}
	if i := strings.IndexAny(s, ",}"); flow && i >= 0 && !strings.HasPrefix(s, "${") {
		end = i
	}
	if i := strings.Index(s[:end], " #"); i >= 0 {
		end = i
	}
	return end
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }
