package wire

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"
)

type counting struct{ n int }

func (w *counting) ContextEnded() { w.n++ }

func fresh() *Context {
	c := &Context{}
	c.Reset(context.Background())
	return c
}

func TestContextEndsOnce(t *testing.T) {
	c := fresh()
	w := &counting{}
	if !c.Await(w) || c.Await(&counting{}) {
		t.Fatal("want one place for a waiter")
	}
	now := time.Now()
	c.SetDeadline(now.Add(time.Hour))
	if c.Expire(now) || c.Err() != nil {
		t.Fatal("want it to live before its deadline")
	}
	if d, ok := c.Deadline(); !ok || d.Sub(now).Round(time.Second) != time.Hour {
		t.Errorf("deadline: %v %v", d, ok)
	}
	if !c.Expire(now.Add(2*time.Hour)) || !errors.Is(c.Err(), context.DeadlineExceeded) || w.n != 1 {
		t.Fatalf("after its deadline: %v, told %d times", c.Err(), w.n)
	}
	c.Cancel()
	c.Release()
	if !errors.Is(c.Err(), context.DeadlineExceeded) || w.n != 1 {
		t.Errorf("want the first end to count, found %v, told %d times", c.Err(), w.n)
	}
	<-c.Done()
}

// The sweeper may be late with the end of an exchange that is over: it must not end the one that has the context now.
func TestContextExpiresNobodyElse(t *testing.T) {
	c := fresh()
	now := time.Now()
	c.SetDeadline(now.Add(-time.Second))
	c.mu.Lock()
	ended := make(chan bool)
	go func() { ended <- c.Expire(now) }()
	for range 10_000 {
		runtime.Gosched() // until it waits for the lock, in all likelihood
	}
	c.due.Store(0) // what Reset does, before anybody else has the lock
	c.mu.Unlock()
	if <-ended || c.Err() != nil {
		t.Errorf("want the next exchange to live, found %v", c.Err())
	}
}

func TestContextIsReusedOnlyWhenNobodyAsked(t *testing.T) {
	for name, ask := range map[string]func(c *Context){
		"done":      func(c *Context) { c.Done() },
		"value":     func(c *Context) { c.Value("k") },
		"afterFunc": func(c *Context) { c.AfterFunc(func() {}) },
		"derived": func(c *Context) {
			_, cancel := context.WithCancel(c)
			cancel()
		},
	} {
		c := fresh()
		if ask(c); c.Release() {
			t.Errorf("%s: want the context to be kept from use", name)
		}
	}
	c := fresh()
	_, _ = c.Deadline()
	_ = c.Err()
	c.Await(&counting{})
	c.Forget()
	if !c.Release() {
		t.Error("want a context that nobody asked to be used again")
	}
	if c.Reset(context.Background()); c.Err() != nil {
		t.Error("want a live context after Reset")
	}
}

func TestDerivedContextsEndWithIt(t *testing.T) {
	c := fresh()
	child, cancel := context.WithTimeout(c, time.Hour)
	defer cancel()
	c.Cancel()
	<-child.Done()
	if !errors.Is(child.Err(), context.Canceled) {
		t.Errorf("found %v", child.Err())
	}
	late, cancel := context.WithCancel(c)
	defer cancel()
	<-late.Done()
	ran := make(chan struct{})
	c.AfterFunc(func() { close(ran) })
	<-ran
}

func TestForgottenWaiterIsNotTold(t *testing.T) {
	for range 1000 {
		c := fresh()
		w := &counting{}
		c.Await(w)
		var wg sync.WaitGroup
		wg.Go(c.Cancel)
		c.Forget()
		before := w.n
		wg.Wait()
		if w.n != before {
			t.Fatal("told after Forget")
		}
	}
	c := fresh()
	c.Cancel()
	w := &counting{}
	if c.Await(w); w.n != 1 {
		t.Errorf("an ended context told its waiter %d times", w.n)
	}
}

func TestAfterFuncCanBeStopped(t *testing.T) {
	c := fresh()
	stop := c.AfterFunc(func() { t.Error("stopped and run") })
	if !stop() || stop() {
		t.Error("want stop to succeed once")
	}
	c.Cancel()
	if c.AfterFunc(func() {})() {
		t.Error("want stop to fail after the end")
	}
}

func TestContextAllocatesNothing(t *testing.T) {
	c := fresh()
	w := &counting{}
	base := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		c.Reset(base)
		c.SetDeadline(time.Now().Add(time.Second))
		c.Await(w)
		c.Forget()
		c.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
