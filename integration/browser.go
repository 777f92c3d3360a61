package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Browser is a headless Chromium of a test, with a profile of its own.
type Browser struct {
	ctx context.Context
}

// StartBrowser starts Chromium. Without it the test is skipped, or fails in CI.
func StartBrowser(t testing.TB, flags ...chromedp.ExecAllocatorOption) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-dev-shm-usage", true),
	)
	ctx, cancelAll := chromedp.NewExecAllocator(context.Background(), append(options, flags...)...)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until it has ended, before its folder goes
		cancel()
		cancelAll()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return &Browser{ctx: ctx}
}

// Tab is a page in a browser.
type Tab struct {
	t      testing.TB
	ctx    context.Context
	cancel context.CancelFunc
}

// Open opens a page in a tab of its own, which is closed with the test.
func (b *Browser) Open(t testing.TB, url string) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	tab := &Tab{t, ctx, cancel}
	t.Cleanup(tab.Close)
	// The tab lives as long as the context it is first used with.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	tab.Do(chromedp.Navigate(url))
	return tab
}

// Close closes the tab, as a person does.
func (tab *Tab) Close() { tab.cancel() }

// Do carries out actions in the page.
func (tab *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tab.t.Fatalf("in the browser: %v", err)
	}
}

// Call calls a method of the DevTools protocol for the page.
func (tab *Tab) Call(method string, params any) {
	tab.t.Helper()
	tab.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		return target.Call(ctx, method, params, nil)
	}))
}

// Eval returns what a JavaScript expression is, as JSON; promises are awaited.
func (tab *Tab) Eval(expression string) string {
	tab.t.Helper()
	script := fmt.Sprintf("Promise.resolve(%s).then(v => JSON.stringify(v) ?? 'undefined')", expression)
	return get(tab, chromedp.Evaluate[string](script, awaitPromise))
}

// Expect waits until an expression is a value, as JSON.
func (tab *Tab) Expect(expression, want string) {
	tab.t.Helper()
	got := ""
	Eventually(tab.t, func() bool {
		got = tab.Eval(expression)
		return got == want
	}, func() string { return fmt.Sprintf("%s is %s, want %s", expression, got, want) })
}

// Screenshot writes a picture of the page, if the environment variable
// SCREENSHOTS names a folder, and returns it.
func (tab *Tab) Screenshot(name string, width, height int64) []byte {
	tab.t.Helper()
	tab.Do(chromedp.EmulateViewport(width, height))
	png := get(tab, chromedp.FullScreenshot(100))
	if dir := os.Getenv("SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(dir+"/"+name+".png", png, 0o644); err != nil {
			tab.t.Error(err)
		}
	}
	return png
}

// JSString is a text as JavaScript.
func JSString(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}

func awaitPromise(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }

// get carries out an action in a page, and returns what it returns.
func get[T any](tab *Tab, action chromedp.Action[T]) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, waitLimit)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		tab.t.Fatalf("in the browser: %v", err)
	}
	return value
}
