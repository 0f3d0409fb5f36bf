package dashboard_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium, driven over a pipe by the DevTools protocol:
// messages of JSON, each with a zero byte behind it.
type browser struct {
	t   *testing.T
	out io.Writer

	saved chan struct{} // gets one for every file that was downloaded

	mu       sync.Mutex
	next     int
	calls    map[int]chan reply
	sessions map[string]*tab
	gone     error
}

type reply struct {
	Result json.RawMessage
	Err    error
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium in PATH, and the page is tested in one: run .ci/services, or install it your own way")
	return ""
}

// startBrowser starts a Chromium that ends with the test.
func startBrowser(t *testing.T, flags ...string) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("short: starts a browser; run without -short")
	}
	profile := t.TempDir()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it outlives the test until its clean-up
	cmd := exec.CommandContext(ctx, findChromium(t), append(flags,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--disable-default-apps", "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en-GB",
		"--window-size=1440,900", "--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")...)
	cmd.Env = append(os.Environ(), "HOME="+profile, "TZ=UTC")
	in, toBrowser := pipe(t)
	fromBrowser, out := pipe(t)
	cmd.ExtraFiles = []*os.File{in, out} // become 3 and 4
	ownGroup(cmd)
	var said strings.Builder
	cmd.Stderr = &said
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	_ = in.Close()
	_ = out.Close()
	b := &browser{t: t, out: toBrowser, saved: make(chan struct{}, 8), calls: map[int]chan reply{}, sessions: map[string]*tab{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.read(fromBrowser)
	}()
	t.Cleanup(func() {
		b.mu.Lock()
		died := b.gone != nil
		b.mu.Unlock()
		cancel()
		_ = cmd.Wait()
		_ = toBrowser.Close()
		_ = fromBrowser.Close()
		<-ended
		if died {
			t.Logf("Chromium said:\n%s", said.String())
		}
	})
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func (b *browser) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			b.fail(fmt.Errorf("the browser is gone: %w", err))
			return
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			b.fail(err)
			return
		}
		b.mu.Lock()
		call, page := b.calls[m.ID], b.sessions[m.SessionID]
		delete(b.calls, m.ID)
		b.mu.Unlock()
		switch {
		case m.Method == "Browser.downloadProgress":
			b.progress(m)
		case m.Method != "" && page != nil:
			page.happened(m)
		case call != nil && m.Error != nil:
			call <- reply{Err: errors.New(m.Error.Message)}
		case call != nil:
			call <- reply{Result: m.Result}
		}
	}
}

// download has the browser save files in a folder, which it gives.
func (b *browser) download() string {
	b.t.Helper()
	folder := b.t.TempDir()
	b.call("", "Browser.setDownloadBehavior", object{"behavior": "allow", "downloadPath": folder, "eventsEnabled": true})
	return folder
}

func (b *browser) progress(m message) {
	var of struct{ State string }
	if json.Unmarshal(m.Params, &of) == nil && of.State == "completed" {
		b.saved <- struct{}{}
	}
}

func (b *browser) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = err
	for id, call := range b.calls {
		call <- reply{Err: err}
		delete(b.calls, id)
	}
}

func (b *browser) send(session, method string, params any) (<-chan reply, error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	answer := make(chan reply, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone != nil {
		return nil, b.gone
	}
	b.next++
	b.calls[b.next] = answer
	text, err := json.Marshal(message{ID: b.next, SessionID: session, Method: method, Params: raw})
	if err != nil {
		return nil, err
	}
	_, err = b.out.Write(append(text, 0))
	return answer, err
}

const patience = 5 * time.Minute // a loaded machine is slow, and nobody waits for what has come

func (b *browser) call(session, method string, params any) json.RawMessage {
	b.t.Helper()
	result, err := b.ask(session, method, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

func (b *browser) ask(session, method string, params any) (json.RawMessage, error) {
	answer, err := b.send(session, method, params)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r := <-answer:
		if r.Err != nil {
			return nil, fmt.Errorf("%s: %w", method, r.Err)
		}
		return r.Result, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer within %s", method, patience)
	}
}

// object is the params of a call.
type object = map[string]any

// tab is one page, and what went wrong on it.
type tab struct {
	b       *browser
	session string

	mu     sync.Mutex
	faults []string
	said   []string // on the console
}

// open makes a tab at the URL. Whatever the page complains of fails the test.
func (b *browser) open(url string) *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.decode(b.call("", "Target.createTarget", object{"url": "about:blank"}), &target)
	var attached struct{ SessionID string }
	b.decode(b.call("", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}), &attached)
	p := &tab{b: b, session: attached.SessionID}
	b.mu.Lock()
	b.sessions[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(domain+".enable", object{})
	}
	p.call("Page.addScriptToEvaluateOnNewDocument", object{"source": `
		window.violations = [];
		addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective + " " + e.blockedURI + " " + e.sample));
		window.most = 0; // lines that were drawn in one go
		new MutationObserver((changes) => {
			most = Math.max(most, changes.flatMap((c) => [...c.addedNodes]).filter((n) => n.classList?.contains("l")).length);
		}).observe(document, { childList: true, subtree: true });
		// What is said in passing stays: who looks for it may be slow.
		const later = window.setTimeout;
		window.setTimeout = (then, ...more) => String(then) === "() => node.remove()" ? 0 : later(then, ...more);`})
	p.size(1440, 900)
	p.call("Page.navigate", object{"url": url})
	b.t.Cleanup(func() {
		if b.t.Failed() {
			p.shoot("failed")
		}
	})
	return p
}

func (b *browser) decode(raw json.RawMessage, into any) {
	b.t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		b.t.Fatal(err)
	}
}

func (p *tab) call(method string, params any) {
	p.b.t.Helper()
	p.b.call(p.session, method, params)
}

// happened keeps what no page of ours may do: throw, complain, open a dialog.
func (p *tab) happened(m message) {
	var said struct {
		Type             string
		Message          string
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
		Entry struct{ Level, Text, URL string }
		Args  []struct {
			Value       any
			Description string
		}
	}
	if json.Unmarshal(m.Params, &said) != nil {
		return
	}
	if strings.HasPrefix(m.Method, "Runtime.") || strings.HasPrefix(m.Method, "Log.") {
		p.mu.Lock()
		p.said = append(p.said, string(m.Params))
		p.mu.Unlock()
	}
	fault := ""
	switch m.Method {
	case "Page.javascriptDialogOpening":
		fault = "a dialog: " + said.Message
		_, _ = p.b.send(p.session, "Page.handleJavaScriptDialog", object{"accept": false})
	case "Runtime.exceptionThrown":
		fault = said.ExceptionDetails.Text + " " + said.ExceptionDetails.Exception.Description
	case "Runtime.consoleAPICalled":
		if said.Type == "error" || said.Type == "warning" || said.Type == "assert" {
			fault = fmt.Sprint("console.", said.Type, said.Args)
		}
	case "Log.entryAdded":
		if said.Entry.Level == "error" || said.Entry.Level == "warning" {
			fault = said.Entry.Level + ": " + said.Entry.Text + " " + said.Entry.URL
		}
	}
	if fault != "" {
		p.mu.Lock()
		p.faults = append(p.faults, fault)
		p.mu.Unlock()
	}
}

// forgive drops the browser's own notes of answers that were asked for.
func (p *tab) forgive(status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = slices.DeleteFunc(p.faults, func(f string) bool { return strings.Contains(f, "responded with a status of "+status) })
}

// clean fails the test if anything went wrong on the page.
func (p *tab) clean() {
	p.b.t.Helper()
	var violations []string
	p.eval(`window.violations`, &violations)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fault := range append(violations, p.faults...) {
		p.b.t.Errorf("on the page: %s", fault)
	}
}

// eval gives the value of a script, which may be a promise of one.
func (p *tab) eval(script string, into any) {
	p.b.t.Helper()
	if err := p.try(script, into); err != nil {
		p.b.t.Fatal(err)
	}
}

// try is eval whose error says that the page went away meanwhile.
func (p *tab) try(script string, into any) error {
	p.b.t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	raw, err := p.b.ask(p.session, "Runtime.evaluate", object{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true})
	if err != nil {
		return err
	}
	p.b.decode(raw, &got)
	if e := got.ExceptionDetails; e != nil {
		p.b.t.Fatalf("%s\n%s %s", script, e.Text, e.Exception.Description)
	}
	if into != nil {
		p.b.decode(got.Result.Value, into)
	}
	return nil
}

// wait returns when the script is true, looking at every frame.
func (p *tab) wait(what, script string) {
	p.b.t.Helper()
	var ok bool
	look := fmt.Sprintf(`new Promise((resolve) => {
		const end = performance.now() + %d;
		const look = () => {
			let is = false;
			try { is = Boolean(%s); } catch {}
			if (is || performance.now() > end) resolve(is); else setTimeout(look, 20);
		};
		look();
	})`, (patience / 2).Milliseconds(), script)
	err := p.try(look, &ok)
	for navigated(err) {
		err = p.try(look, &ok)
	}
	if err != nil {
		p.b.t.Fatalf("waited for %s: %v", what, err)
	}
	if !ok {
		var text string
		p.eval(`document.body.innerText.slice(0, 1500)`, &text)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.b.t.Fatalf("waited in vain: %s\nthe page complains of %q and shows\n%s", what, p.faults, text)
	}
}

// navigated says whether a script came to nothing because the page is another one now.
func navigated(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "navigated") || strings.Contains(err.Error(), "context"))
}

func (p *tab) press(keys ...string) {
	p.b.t.Helper()
	for _, key := range keys {
		params := object{"type": "keyDown", "key": key}
		if len(key) == 1 {
			params["text"] = key
		}
		switch key { // those by which the browser itself does something
		case "Enter":
			params["windowsVirtualKeyCode"], params["text"] = 13, "\r"
		case "Escape":
			params["windowsVirtualKeyCode"] = 27
		case "Tab":
			params["windowsVirtualKeyCode"] = 9
		}
		p.call("Input.dispatchKeyEvent", params)
		p.call("Input.dispatchKeyEvent", object{"type": "keyUp", "key": key})
	}
}

// front shows the tab: one in the background draws nothing.
func (p *tab) front() {
	p.b.t.Helper()
	p.call("Page.bringToFront", object{})
}

func (p *tab) size(width, height int) {
	p.b.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", object{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
}

func (p *tab) scheme(name string) {
	p.b.t.Helper()
	p.call("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": name}}})
}

var shots = flag.String("shots", "", "folder for pictures of the page, to look at")

func (p *tab) shoot(name string) {
	if *shots == "" {
		return
	}
	answer, err := p.b.send(p.session, "Page.captureScreenshot", object{"format": "png"})
	if err != nil {
		return
	}
	select {
	case r := <-answer:
		var shot struct{ Data string }
		if json.Unmarshal(r.Result, &shot) != nil {
			return
		}
		if png, err := base64.StdEncoding.DecodeString(shot.Data); err == nil {
			_ = os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o600)
		}
	case <-time.After(10 * time.Second):
	}
}
