package http2

import "time"

// Limits bound what clients may ask of a server. The zero value has all of them on, with the values named; there is no
// way to turn one off, only to set it high. Beside them always hold: a header list of 64 KiB (longer ones are answered 431),
// a header block of 64 KiB in 9 frames, frames of 16 KiB, 1000 frames in 10 s that are no part of a call and follow on none.
type Limits struct {
	// Streams is how many streams a client may have open on a connection (100), and how many calls of it run at once:
	// those that it has cancelled count until their handler has returned. Streams beyond are refused, calls beyond wait.
	Streams int
	// StreamWindow is how many bytes of a body are held for a handler that does not read (64 KiB).
	StreamWindow int
	// ConnWindow is how many bytes a client may send before the connection has taken them in (1 MiB).
	ConnWindow int
	// Headers is how many fields a request may have (100); more are answered 431.
	Headers int
	// Resets is how many streams a client may waste within a second: cancelled before anything came of them, or reset for
	// a fault of its own. When they are half of all that it opened in that time, the connection is ended (500).
	Resets int
	// Memory bounds the heads and unread bodies of all connections together (128 MiB). Above it new streams are refused
	// and streams with unread bodies that go on sending are reset.
	Memory int64
	// HeadTimeout is for the preface, the first SETTINGS and a header block to be complete (10 s).
	HeadTimeout time.Duration
	// IdleTimeout is for a connection without streams (300 s).
	IdleTimeout time.Duration
	// WriteTimeout is for a client to take what is waiting for it, by its windows or by its socket (60 s), and a second more
	// for each KiB that it took.
	WriteTimeout time.Duration
	// MaxAge is when a connection is asked to leave, a tenth more or less; calls on it are finished (30 min).
	MaxAge time.Duration
}

func (l Limits) withDefaults() Limits {
	def(&l.Streams, 100)
	def(&l.StreamWindow, 64<<10)
	def(&l.ConnWindow, 1<<20)
	def(&l.Headers, 100)
	def(&l.Resets, 500)
	def(&l.Memory, 128<<20)
	def(&l.HeadTimeout, 10*time.Second)
	def(&l.IdleTimeout, 300*time.Second)
	def(&l.WriteTimeout, 60*time.Second)
	def(&l.MaxAge, 30*time.Minute)
	return l
}

func def[T int | int64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

const (
	// wastedWithin: a call cancelled sooner than this, with no answer begun, was not meant to be answered. One that took
	// longer cost its client a place among Streams for that time, and that bounds what it can ask for.
	wastedWithin = 2 * time.Millisecond
	// emptyFrames is how many DATA frames in a row may be empty.
	emptyFrames = 10
	// answerCredit is how many control frames are forgiven for a frame of an answer, and one more for so many bytes of it:
	// a client says what it took.
	answerCredit = 10
	creditBytes  = 512
	// tinyData is what DATA has to bring not to count among the frames that are no part of a call, when nobody wants it.
	tinyData = 64
	// slowest is how many bytes a second of an answer a client has to take, beyond WriteTimeout.
	slowest = 1 << 10
)
