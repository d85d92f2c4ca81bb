package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// start starts a browser for a test.
func start(t *testing.T) context.Context {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	switch {
	case program == "" && os.Getenv("MUSTER_REQUIRE_ALL") != "":
		t.Fatal("no chromium; apt-get install chromium")
	case program == "":
		t.Skip("SKIPPED: no chromium in PATH; apt-get install chromium, or make test-browser as root")
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))...)
	t.Cleanup(stop)
	ctx, close := chromedp.NewContext(ctx)
	t.Cleanup(close)
	// The first run starts the browser, and lives as long as its context: it has no
	// limit.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return ctx
}

// limit bounds what is done with a page.
const limit = 30 * time.Second

// sheet is a page in a tab of its own.
type sheet struct {
	t   *testing.T
	ctx context.Context
	url string
}

// open opens a text as a file, in a tab of its own.
func open(t *testing.T, browser context.Context, html string) sheet {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(html), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, close := chromedp.NewContext(browser)
	t.Cleanup(close)
	s := sheet{t, ctx, (&url.URL{Scheme: "file", Path: file}).String()}
	s.do(chromedp.Navigate("about:blank"))
	return s
}

// do does steps, and fails if they do not work or take too long.
func (s sheet) do(steps ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	if s.ctx.Err() == nil && chromedp.FromContext(s.ctx).Target == nil {
		ctx = s.ctx // it opens the tab, which would go with the time
	}
	if err := chromedp.Do(ctx, steps...); err != nil {
		s.t.Fatal(err)
	}
}

// eval asks a page something from outside: its own scripts are not to run.
func eval[T any](s sheet, expression string) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		s.t.Fatalf("%s: %v", expression, err)
	}
	return got
}

// look sets the screen: how wide it is, light or dark, on screen or in print.
func (s sheet) look(width int64, scheme, media string) {
	s.t.Helper()
	s.do(chromedp.EmulateViewport(width, 900), func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return chromedp.Void{}, err
	})
}

// picture keeps a picture where MUSTER_PICTURES says, for people to look at.
func (s sheet) picture(name string) {
	s.t.Helper()
	dir := os.Getenv("MUSTER_PICTURES")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// overheard is what a page asked for, and what the browser had to complain of.
func (s sheet) overheard(during func()) (requests, complaints []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	// Events come in order, so that what we say ourselves ends them.
	const mark = "that was all"
	over := make(chan struct{})
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			requests = append(requests, e.Request.URL)
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text)
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			text := fmt.Sprintf("%s", e.Args[0].Value)
			if text == `"`+mark+`"` {
				close(over)
				return
			}
			complaints = append(complaints, text)
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.do(func(ctx context.Context, _ *chromedp.Target) (none chromedp.Void, err error) {
		_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
		return none, err
	})
	during()
	eval[any](s, "console.log('"+mark+"')")
	select {
	case <-over:
	case <-ctx.Done():
		s.t.Fatal("the browser does not say what it was told to say")
	}
	return requests, complaints
}
