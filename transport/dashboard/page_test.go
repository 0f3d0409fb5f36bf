package dashboard_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

const isLive = `document.querySelector("#badge").dataset.status === "live"`

// js makes a Go string one of JavaScript.
func js(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func row(id string) string { return "tr[data-id=" + js(id) + "]" }

func hasText(selector, text string) string {
	return fmt.Sprintf(`document.querySelector(%s).textContent.includes(%s)`, js(selector), js(text))
}

func TestThePageShowsTasksAsTheyMove(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := startBrowser(t).open(s.URL)

	p.wait("the empty page", hasText("#list", "troupe submit demo.sleep '{\"duration\":\"5s\",\"steps\":50}' --follow"))
	p.shoot("empty")

	id := s.add(transport.Task{Kind: "demo.sleep", State: task.Running})
	p.wait("a task that came after the page", hasText(row(id), "running"))
	s.say(id, task.EventProgress, object{"fraction": 0.42, "message": "step 21 of 50"})
	p.wait("its progress", hasText(row(id), "42 %"))
	p.wait("its progress bar", fmt.Sprintf(`document.querySelector(%s).getAttribute("aria-valuenow") === "42"`, js(row(id)+" .bar")))
	s.say(id, task.EventState, object{"state": "succeeded", "attempt": 1, "result": 1})
	p.wait("its end", hasText(row(id), "succeeded"))
	p.wait("the counts", hasText(`.chip[data-state="succeeded"]`, "1"))

	for range 300 {
		s.add(transport.Task{Kind: "demo.echo"})
	}
	last := s.add(transport.Task{Kind: "other.kind", Queue: "night"})
	p.wait("the newest of many", `document.querySelector("tbody tr").dataset.id === `+js(last))
	p.wait("no more rows than are of use", `document.querySelectorAll("tbody tr").length === 200`)

	p.press("/")
	p.call("Input.insertText", object{"text": "night"})
	p.wait("the filter by text", `document.querySelectorAll("tbody tr").length === 1 && location.hash.includes("q=night")`)
	p.press("Escape", "k")
	p.wait("the picked row", fmt.Sprintf(`document.activeElement === document.querySelector(%s)`, js(row(last)+" a")))
	p.eval(`document.activeElement.click()`, nil)
	p.wait("the task beside the list", `location.hash.startsWith("#/task/") && `+hasText("#detail h2", "other.kind"))
	p.wait("why it waits", hasText("#detail .why", "2 stand before it"))
	p.press("Escape")
	p.wait("the list alone", `document.querySelector("#detail").hidden`)
	p.eval(`document.querySelector('.chip[data-state="succeeded"]').click()`, nil)
	p.wait("nothing that is both", hasText("#list", "No task matches"))
	p.eval(`document.querySelector("#list .empty button").click()`, nil)
	p.wait("all again", `document.querySelectorAll("tbody tr").length > 100`)
	p.eval(`document.querySelector('.chip[data-state="succeeded"]').click()`, nil)
	p.wait("those the server finds beyond the newest", `document.querySelectorAll("tbody tr").length === 1 && `+hasText("tbody", "succeeded"))
	p.clean()
}

func TestATaskTellsItsStoryLive(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	id := s.add(transport.Task{Kind: "exec", Payload: json.RawMessage(`{"n":9007199254740993,"x":1.0}`)})
	p := startBrowser(t).open(s.URL + "/#/task/" + id)
	p.wait("the task", hasText("#detail .state", "queued"))

	s.say(id, task.EventState, object{"state": "running", "attempt": 1, "node": "node-a", "worker": "local"})
	s.say(id, task.EventOutput, object{"text": "first "})
	s.say(id, task.EventOutput, object{"text": "line\nsecond\x1b[31m line\x1b[0m\n10 %\r20 %"})
	s.say(id, task.EventOutput, object{"chunk": object{"i": json.Number("12345678901234567890")}})
	s.say(id, task.EventOutput, object{"base64": "AAECAw=="})
	var lines []string
	p.wait("its output", `document.querySelectorAll("#panel-output .l").length === 5`)
	p.eval(`[...document.querySelectorAll("#panel-output .b")].map((b) => b.textContent)`, &lines)
	want := []string{"first line", "second line", "20 %", `{"i":12345678901234567890}`, "4 B that are not text"}
	if !slices.Equal(lines, want) {
		t.Errorf("output is %q, want %q", lines, want)
	}

	s.say(id, task.EventLog, object{"level": "warn", "message": "careful", "fields": object{"path": "/a", "n": 3}})
	p.press("2")
	p.wait("its log", hasText("#panel-logs .log-warn", "carefuln=3path=/a"))
	p.press("5")
	p.wait("its payload, number by number", hasText("#panel-input", "9007199254740993")+"&&"+hasText("#panel-input", `"x": 1.0`))

	s.say(id, task.EventState, object{"state": "scheduled", "attempt": 1, "error": object{"code": "flaky", "message": "once", "retryable": true}})
	s.say(id, task.EventState, object{"state": "running", "attempt": 2, "node": "node-b"})
	s.say(id, task.EventState, object{"state": "failed", "attempt": 2, "error": object{"code": "broken", "message": "for good", "retryable": false}})
	p.wait("the same in the list", hasText(row(id), "failed"))
	p.press("6")
	p.wait("its attempts", hasText("#panel-attempts", "flaky once")+"&&"+hasText("#panel-attempts", "broken for good"))
	p.press("4")
	p.wait("its error", hasText("#panel-result", "broken"))

	p.eval(`[...document.querySelectorAll(".verbs button")].find((b) => b.textContent === "Retry").click()`, nil)
	p.wait("the task queued anew", hasText("#detail .state", "queued"))
	s.say(id, task.EventState, object{"state": "running", "attempt": 3})
	p.wait("followed again", hasText("#detail .state", "running"))

	p.eval(`[...document.querySelectorAll(".verbs button")].find((b) => b.textContent === "Cancel").click()`, nil)
	p.wait("the question first", `document.querySelector("dialog[open]")`)
	if got := s.state(id); got != task.Running {
		t.Errorf("cancelled before the answer: %s", got)
	}
	p.eval(`document.querySelector("dialog .danger").click()`, nil)
	p.wait("the cancelled task", hasText("#detail .state", "cancelled"))
	p.wait("the offer to delete", hasText(".verbs", "Delete"))
	p.eval(`document.querySelector(".verbs .danger").click()`, nil)
	p.wait("that question", `document.querySelector("dialog[open] .danger")`)
	p.eval(`document.querySelector("dialog .danger").click()`, nil)
	p.wait("the list without it", `document.querySelector("#detail").hidden && document.querySelectorAll("tbody tr").length === 0`)

	p.eval(`location.hash = "#/task/0197a000-ffff-7000-8000-000000000000"`, nil)
	p.wait("a word on a task that is not there", hasText("#detail", "There is no such task"))
	p.clean()
}

func TestBrokenConnectionsResumeWithoutGapOrRepeat(t *testing.T) {
	t.Parallel()
	const chunks = 10_000
	s := newStage(t)
	s.breaks = []rupture{{1_000, 0}, {3_500, 4101}, {3_501, 0}, {6_500, 4108}, {8_000, 1011}, {9_500, 4229}}
	id := s.add(transport.Task{Kind: "demo.stream", State: task.Running})
	for i := range chunks / 2 {
		s.say(id, task.EventOutput, object{"chunk": object{"i": i}})
	}
	p := startBrowser(t).open(s.URL + "/#/task/" + id + "?tab=events")
	for i := chunks / 2; i < chunks; i++ {
		s.say(id, task.EventOutput, object{"chunk": object{"i": i}})
	}
	s.say(id, task.EventState, object{"state": "succeeded", "attempt": 1, "result": object{"chunks": chunks}})

	const total = chunks + 3 // queued, running, succeeded
	p.wait("the end", hasText("#detail .state", "succeeded"))
	const seen = `Number(document.querySelector("#tab-events small").textContent.replace(/\D/g, ""))`
	for n := 500; n < total; n += 500 { // step by step: how long all of it takes is the machine's
		p.wait(fmt.Sprintf("%d events", n), fmt.Sprintf("%s >= %d", seen, n))
	}
	p.wait("every event once", fmt.Sprintf("%s === %d", seen, total))
	p.wait("the last event", fmt.Sprintf(`[...document.querySelectorAll("#panel-events .g")].at(-1).textContent === "1.%d"`, chunks+2))
	var cursors []string
	p.eval(`[...document.querySelectorAll("#panel-events .g")].map((g) => g.textContent)`, &cursors)
	if len(cursors) < 5_000 || len(cursors) > 5_200 {
		t.Errorf("%d lines are kept, want 5000 and at most a page more", len(cursors))
	}
	for i, c := range slices.Backward(cursors) {
		if want := fmt.Sprintf("1.%d", chunks+2-(len(cursors)-1-i)); c != want {
			t.Fatalf("line %d is of event %s, want %s", i, c, want)
		}
	}
	p.press("1")
	p.wait("the last chunk", fmt.Sprintf(`[...document.querySelectorAll("#panel-output .b")].at(-1).textContent === '{"i":%d}'`, chunks-1))
	p.wait("a live connection", isLive)
	p.shoot("events")

	s.mu.Lock()
	asked, left := s.asked, s.breaks
	s.mu.Unlock()
	// On a slow machine the page may come back more often, also before it has seen anything.
	begun := slices.IndexFunc(asked, func(after string) bool { return after != "" })
	if len(left) != 0 || len(asked) < 7 || begun < 1 || slices.Contains(asked[begun:], "") {
		t.Errorf("breaks left: %v; subscribed after %q, want 7 times or more, the first from the beginning", left, asked)
	}
	var most int
	p.eval(`window.most`, &most)
	t.Logf("drawn at once: %d lines at most", most)
	if most < 2 || most > 1_500 {
		t.Errorf("the page draws %d lines at once, and stands still for as long", most)
	}
	p.clean()
}

func TestTheBadgeSaysHowTheConnectionStands(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := startBrowser(t).open(s.URL)
	p.wait("live", isLive)
	p.eval(`{ const real = WebSocket.prototype.send; window.mute = () => { WebSocket.prototype.send = () => {}; }; window.unmute = () => { WebSocket.prototype.send = real; }; }`, nil)
	s.drop(4401)
	p.wait("refused for good", `document.querySelector("#badge").dataset.status === "refused"`)
	p.eval(`document.querySelector("#badge").click()`, nil)
	p.wait("live again", isLive)
	// Nothing the page asks arrives any more: the server is silent, the connection open.
	p.eval(`mute()`, nil)
	p.wait("stale", `document.querySelector("#badge").dataset.status === "stale"`)
	p.eval(`unmute()`, nil)
	p.wait("live on a new connection", isLive)
	p.clean()
}

func TestTheFormSubmitsWhatWasTyped(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := startBrowser(t).open(s.URL)
	p.wait("live", isLive+` && document.querySelector("#demo").hidden === false`)
	p.press("n")
	p.wait("the form", `document.querySelector("dialog[open] textarea")`)
	p.shoot("form")
	set := func(name, value string) {
		t.Helper()
		p.eval(fmt.Sprintf(`{ const e = document.querySelector('dialog [name="%s"]'); e.value = %s; e.dispatchEvent(new Event("input", { bubbles: true })); }`, name, js(value)), nil)
	}
	set("kind", "demo.echo")
	set("payload", `{"big": 9007199254740993,`)
	p.wait("a word on the JSON", `document.querySelector("#payload-wrong").textContent !== ""`)
	p.eval(`document.querySelector("dialog form").requestSubmit()`, nil)
	set("payload", `{"big": 9007199254740993}`)
	set("priority", "7")
	set("queue", "refused")
	p.eval(`document.querySelector("dialog form").requestSubmit()`, nil)
	p.wait("the server's refusal", hasText("dialog", "queue is not one of ours"))
	set("queue", "")
	p.eval(`document.querySelector("dialog form").requestSubmit()`, nil)
	p.wait("the new task", hasText("#detail h2", "demo.echo"))
	var id string
	p.eval(`location.hash.slice("#/task/".length)`, &id)
	s.say(id, task.EventProgress, object{"fraction": 0.25, "message": "quarter"})
	p.wait("the row, whatever came first", hasText(row(id), "running")+"&&"+fmt.Sprintf(`document.querySelector(%s).getAttribute("aria-valuenow") === "25"`, js(row(id)+" .bar")))
	want := `{"kind":"demo.echo","priority":7,"payload":{"big": 9007199254740993}}`
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.posted) != 1 || s.posted[0] != want {
		t.Errorf("posted %q, want only %q", s.posted, want)
	}
	p.forgive("422")
	p.clean()
}

var attacks = []string{
	`<script>alert(1)</script>`,
	`<img src=x onerror=alert(1)>`,
	`"><svg onload=alert(1)>`,
	`javascript:alert(1)`,
	`'-alert(1)-'`,
	`</textarea><script>alert(1)</script>`,
	`{{constructor.constructor('alert(1)')()}}`,
	`<style>*{display:none}</style>`,
	`<iframe srcdoc="<script>parent.alert(1)</script>">`,
	"\u202egnp.exe\u0000\ufffe\u2028",
	`<base href="https://elsewhere.invalid/">`,
	`<a href="javascript:alert(1)" id=list>x</a>`,
}

func TestNothingATaskSaysBecomesMarkup(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.kinds = append(s.kinds, attacks...)
	p := startBrowser(t).open(s.URL)
	p.wait("live", isLive)
	for i, x := range attacks {
		id := s.add(transport.Task{
			Kind: x, Queue: x, Labels: map[string]string{x: x}, UniqueKey: x, BatchID: x, Timeout: x,
			Resources: task.Resources{x: 1}, Payload: json.RawMessage(js(x)),
		})
		s.say(id, task.EventState, object{"state": "running", "attempt": 1, "node": x, "worker": x, "reason": x})
		s.say(id, task.EventProgress, object{"fraction": 0.5, "message": x})
		s.say(id, task.EventOutput, object{"text": x + "\n"})
		s.say(id, task.EventOutput, object{"chunk": object{x: x}})
		s.say(id, task.EventOutput, object{"base64": x})
		s.say(id, task.EventLog, object{"level": x, "message": x, "fields": object{x: x, "o": object{x: x}}})
		s.say(id, task.EventLog, object{"level": "error", "message": x, "fields": x})
		if i%2 == 0 {
			s.say(id, task.EventState, object{"state": "failed", "attempt": 1, "error": object{"code": x, "message": x, "details": object{x: x}}})
		} else {
			s.say(id, task.EventState, object{"state": "succeeded", "attempt": 1, "result": object{x: x}})
		}
		p.eval(fmt.Sprintf(`location.hash = "#/task/" + encodeURIComponent(%s)`, js(id)), nil)
		p.wait("the end of "+x, `["succeeded", "failed"].includes(document.querySelector("#detail .title .state").dataset.state) &&
			document.querySelector("#tab-events small").textContent !== ""`)
		for tab := range 6 {
			p.press(strconv.Itoa(tab + 1))
			p.wait("the tab", fmt.Sprintf(`document.querySelectorAll('[role="tab"]')[%d].getAttribute("aria-selected") === "true"`, tab))
			p.eval(`new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))`, nil)
		}
	}
	p.press("n")
	p.wait("the form", `document.querySelector("dialog[open]")`)
	for _, x := range attacks {
		hash := fmt.Sprintf(`"#/task/" + encodeURIComponent(%[1]s) + "?tab=" + encodeURIComponent(%[1]s) + "&state=" + encodeURIComponent(%[1]s) + "&kind=" + encodeURIComponent(%[1]s) + "&q=" + encodeURIComponent(%[1]s)`, js(x))
		p.eval(`location.hash = `+hash, nil)
		p.wait("a word on the address "+x, hasText("#detail", "no such task"))
	}
	p.eval(`location.hash = "#/"`, nil)
	p.wait("the list", fmt.Sprintf(`document.querySelectorAll("tbody tr").length === %d`, len(attacks)))
	var made int
	p.eval(`document.querySelectorAll("main script, main img, main iframe, main style, main base, main [onerror], main [onload], main [style]:not(.bar i), a[href^='javascript']").length`, &made)
	if made != 0 {
		t.Errorf("%d elements were made of text", made)
	}
	p.clean()
}

// What it looks like is for people: go test -run Drawn -shots FOLDER .
func TestThePageIsDrawnLightAndDark(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	past := func(d time.Duration) task.Time { return task.Time(time.Now().Add(-d)) }
	names := []struct {
		kind, queue string
		priority    int
		state       task.State
	}{
		{"report.monthly", "reports", 0, task.Succeeded},
		{"mail.digest", "mail", -10, task.Succeeded},
		{"exec", "default", 0, task.Failed},
		{"video.transcode", "media", 5, task.Running},
		{"llm.summarise", "ai", 20, task.Running},
		{"image.resize", "media", 0, task.Cancelled},
		{"mail.digest", "mail", -10, task.Queued},
		{"demo.sleep", "default", 0, task.Running},
		{"index.rebuild", "search", 0, task.Queued},
		{"billing.close", "default", 50, task.Scheduled},
		{"demo.stream", "default", 0, task.Running},
		{"demo.echo", "default", 0, task.Succeeded},
	}
	half := 0.0
	for i := range 40 {
		n := names[i%len(names)]
		start := n.state
		if start.Terminal() {
			start = task.Running
		}
		id := s.add(transport.Task{Kind: n.kind, Queue: n.queue, Priority: n.priority, State: start, CreatedAt: past(time.Duration(40-i) * 47 * time.Second)})
		switch n.state {
		case task.Running:
			half += 0.17
			s.say(id, task.EventProgress, object{"fraction": half - float64(int(half)), "message": fmt.Sprintf("step %d of 80", i+7)})
		case task.Failed:
			s.say(id, task.EventState, object{"state": "failed", "attempt": 1, "error": object{"code": "exit_status", "message": "the command ended with status 2", "details": object{"exit_status": 2}}})
		case task.Succeeded, task.Cancelled:
			s.say(id, task.EventState, object{"state": n.state.String(), "attempt": 1, "result": object{"ok": true}})
		default:
		}
	}
	id := s.add(transport.Task{
		Kind: "exec", Queue: "builds", Priority: 10, Labels: map[string]string{"branch": "main", "by": "nightly"},
		Payload: json.RawMessage(`{"command":["go","test","./..."],"dir":"/src/troupe","env":{"CGO_ENABLED":"0"},"limit":9007199254740993}`),
	})
	s.say(id, task.EventState, object{"state": "running", "attempt": 1, "node": "node-a", "worker": "local"})
	for i := range 60 {
		s.say(id, task.EventOutput, object{"text": fmt.Sprintf("ok  \tgithub.com/troupe-run/troupe/pkg%02d\t%d.%03ds\n", i, i%7, i*37%1000)})
		if i%9 == 0 {
			s.say(id, task.EventLog, object{"level": []string{"info", "debug", "warn", "error"}[i/9%4], "message": "go: downloading example.com/mod", "fields": object{"stream": "stderr", "n": i}})
		}
	}
	s.say(id, task.EventOutput, object{"chunk": object{"i": 1, "data": "0123456789abcdef", "ok": true}})
	s.say(id, task.EventProgress, object{"fraction": 0.62, "message": "60 of 97 packages"})

	p := startBrowser(t).open(s.URL)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		p.eval(`location.hash = "#/"`, nil)
		p.wait("the list", isLive+` && document.querySelectorAll("tbody tr").length === 41 && document.querySelector("#detail").hidden`)
		p.shoot("list-" + scheme)
		p.eval(`location.hash = "#/task/" + `+js(id), nil)
		p.wait("the task", `document.querySelectorAll("#panel-output .l").length === 61`)
		p.shoot("task-" + scheme)
		for i, tab := range []string{"output", "logs", "events", "result", "input", "attempts"} {
			p.press(strconv.Itoa(i + 1))
			p.eval(`new Promise((r) => setTimeout(r, 100))`, nil)
			p.shoot("tab-" + tab + "-" + scheme)
		}
		var low []string
		p.eval(contrast, &low)
		for _, l := range low {
			t.Errorf("%s: too little contrast: %s", scheme, l)
		}
	}
	door := newStage(t)
	door.close(map[string]*pass{ownersKey: passOf("acme-production", access.Scopes()...)})
	in := p.b.open(door.URL)
	for _, scheme := range []string{"light", "dark"} {
		in.scheme(scheme)
		in.wait("the question", asksForKey)
		in.eval(`document.activeElement.value = "trp_wrong"; document.querySelector("dialog form").requestSubmit()`, nil)
		in.wait("the refusal", hasText("#key-wrong", "refuses"))
		in.shoot("login-" + scheme)
		var low []string
		in.eval(contrast, &low)
		in.eval(`document.querySelector("#key-wrong").textContent = ""`, nil)
		for _, l := range low {
			t.Errorf("%s: too little contrast where a key is asked for: %s", scheme, l)
		}
	}
	in.signIn(ownersKey)
	in.wait("signed in", isLive+"&&"+hasText("#scopes", "admin"))
	in.shoot("signed-in")
	in.size(360, 860)
	in.shoot("narrow-signed-in")
	var out []string
	in.eval(tooWide, &out)
	if len(out) > 0 {
		t.Errorf("the narrow page of who is signed in is too wide for %q", out)
	}
	in.forgive("401")
	in.clean()

	p.front()
	p.size(420, 860)
	p.press("1")
	p.eval(`new Promise((r) => setTimeout(r, 200))`, nil)
	p.shoot("narrow-task")
	p.eval(`location.hash = "#/"`, nil)
	p.eval(`new Promise((r) => setTimeout(r, 200))`, nil)
	p.shoot("narrow-list")
	var wide []string
	p.eval(tooWide, &wide)
	if len(wide) > 0 {
		t.Errorf("the narrow page is too wide for %q", wide)
	}
	p.clean()
}

// tooWide lists what stands out of the window.
const tooWide = `[...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1 &&
	!e.closest(".chips, .tabs, .scroll, .unseen")).map((e) => e.tagName + "." + e.className + "#" + e.id).slice(0, 8)`

// contrast lists texts whose colour stands too little out from what is behind
// it: less than 4.5 to 1, as WCAG has it for text of this size.
const contrast = `(() => {
	const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
	const paint = (colors) => {
		canvas.clearRect(0, 0, 1, 1);
		for (const c of colors) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
		const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const low = new Set();
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest(":disabled")) continue;
		const behind = [];
		for (let up = e; up; up = up.parentElement) behind.unshift(getComputedStyle(up).backgroundColor);
		const text = paint([...behind, getComputedStyle(e).color]), back = paint(behind);
		const ratio = (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
		if (ratio < 4.5) low.add(ratio.toFixed(2) + " " + e.tagName + "." + e.className + " " + e.textContent.slice(0, 20));
	}
	return [...low].slice(0, 20);
})()`
