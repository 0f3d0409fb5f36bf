package dashboard_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// door is what the stage asks of those who come. Without keys it is open. It is
// guarded by the stage's lock.
type door struct {
	old     bool // a server that knows nothing of keys
	keys    map[string]*pass
	tickets map[string]string // and the key each stands for, until it is used
	given   int               // tickets
	used    []string          // tickets, in order
	wrong   int               // credentials that were refused
	nobody  int               // calls without one that needed one
	asked   []string          // addresses
	forbids string            // calls to paths that end in it are answered with 403
	wait    string            // Retry-After of a refusal, which is then a 429
}

// pass is what a key allows.
type pass struct {
	Namespace string         `json:"namespace"`
	Actor     string         `json:"actor"`
	Scopes    []access.Scope `json:"scopes"`
	ExpiresAt *task.Time     `json:"expires_at,omitempty"`
	Open      bool           `json:"open"`
}

// close asks everybody for one of these keys from now on.
func (s *stage) close(keys map[string]*pass) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.door.keys, s.door.tickets = keys, map[string]string{}
}

// give makes a key, in place of another unless that is "".
func (s *stage) give(key string, p *pass, insteadOf string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.door.keys, insteadOf)
	s.door.keys[key] = p
}

// revoke ends a key and closes what was opened with it.
func (s *stage) revoke(key string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.door.keys, key)
	for w := range s.watchers {
		if w.key == key {
			w.end(code)
		}
	}
}

func unauthorized() *transport.Problem {
	return transport.NewProblem(http.StatusUnauthorized, "unauthorized", "The credential is missing, expired, revoked or wrong.")
}

func forbidden(scope access.Scope) *transport.Problem {
	return transport.NewProblem(http.StatusForbidden, "forbidden", "The credential does not have the scope "+string(scope)+".")
}

// guard lets those through to the API who show a key that allows what they ask for.
func (s *stage) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		problem := s.check(w, r)
		s.mu.Unlock()
		if problem != nil {
			refuse(w, problem)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *stage) check(w http.ResponseWriter, r *http.Request) *transport.Problem {
	d := &s.door
	d.asked = append(d.asked, r.URL.String())
	if !strings.HasPrefix(r.URL.Path, "/v1/") || r.URL.Path == "/v1/ws" {
		return nil
	}
	shown := r.Header.Get("Authorization")
	p, known := d.keys[strings.TrimPrefix(shown, "Bearer ")]
	switch {
	case shown != "" && !known:
		d.wrong++
		if d.wait != "" {
			w.Header().Set("Retry-After", d.wait)
			return transport.NewProblem(http.StatusTooManyRequests, "rate_limited", "There were too many wrong credentials.")
		}
		return unauthorized()
	case shown == "" && d.keys != nil:
		d.nobody++
		return unauthorized()
	case d.forbids != "" && strings.HasSuffix(r.URL.Path, d.forbids):
		return forbidden(access.Admin)
	case p == nil || r.URL.Path == "/v1/me" || r.URL.Path == "/v1/tickets":
		return nil
	}
	needs := access.TasksWrite
	if r.Method == http.MethodGet {
		needs = access.TasksRead
	}
	if !access.Allows(p.Scopes, needs) {
		return forbidden(needs)
	}
	return nil
}

func (s *stage) serveMe(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.door.old {
		http.NotFound(w, r)
		return
	}
	p := s.door.keys[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	answer(w, http.StatusOK, cmp.Or(p, &pass{Namespace: "default", Actor: "open", Scopes: []access.Scope{access.Admin}, Open: true}))
}

func (s *stage) serveTicket(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.door.given++
	ticket := "t&+/=" + strconv.Itoa(s.door.given) // an address must quote it
	s.door.tickets[ticket] = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	answer(w, http.StatusCreated, object{"ticket": ticket, "expires_at": task.Time(time.Now().Add(30 * time.Second))})
}

// admit takes a ticket, once.
func (s *stage) admit(w http.ResponseWriter, r *http.Request) (key string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.door.keys == nil {
		return "", true
	}
	ticket := r.FormValue("ticket")
	key, ok = s.door.tickets[ticket]
	delete(s.door.tickets, ticket)
	if _, known := s.door.keys[key]; !ok || !known {
		refuse(w, unauthorized())
		return "", false
	}
	s.door.used = append(s.door.used, ticket)
	return key, true
}

const (
	ownersKey  = "trp_owner0000000000000000000000000000"
	secondKey  = "trp_second000000000000000000000000000"
	readersKey = "trp_reader000000000000000000000000000"
	writersKey = "trp_writer000000000000000000000000000"
	othersKey  = "trp_other0000000000000000000000000000"
)

func passOf(namespace string, scopes ...access.Scope) *pass {
	return &pass{Namespace: namespace, Actor: "key:0", Scopes: scopes}
}

func keysOfAll() map[string]*pass {
	return map[string]*pass{
		ownersKey:  passOf("acme", access.TasksRead, access.TasksWrite),
		readersKey: passOf("acme", access.TasksRead),
		writersKey: passOf("acme", access.TasksWrite),
		othersKey:  passOf("other", access.Admin),
	}
}

const asksForKey = `document.querySelectorAll("dialog[open] input[type=password]").length === 1`

// signIn types a key where it is asked for.
func (p *tab) signIn(key string) {
	p.b.t.Helper()
	p.wait("the question for a key", asksForKey)
	p.wait("the field in focus", `document.activeElement.matches("dialog input[type=password]")`)
	p.eval(`document.activeElement.select()`, nil)
	p.call("Input.insertText", object{"text": key})
	p.press("Enter")
}

// hides fails the test if the key stands anywhere but in the browser's storage and
// in the header of requests.
func (p *tab) hides(s *stage, key string) {
	p.b.t.Helper()
	var shown string
	p.eval(`location.href + document.title + document.documentElement.outerHTML + document.body.innerText + document.cookie +
		JSON.stringify(history.state) + [...document.querySelectorAll("input:not([type=password]), textarea, select")].map((e) => e.value).join()`, &shown)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, texts := range map[string][]string{"the page": {shown}, "the console": p.said, "an address": s.door.asked} {
		if i := slices.IndexFunc(texts, func(text string) bool { return strings.Contains(text, key) }); i >= 0 {
			p.b.t.Errorf("the key stands in %s: %.200q", what, texts[i])
		}
	}
}

func TestAKeyIsAskedForOnceAndShownToNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.close(keysOfAll())
	id := s.add(transport.Task{Kind: "exec", State: task.Running})
	b := startBrowser(t)
	p := b.open(s.URL + "/#/task/" + id)

	p.wait("the question", asksForKey)
	var field struct{ Type, Autocomplete, Name, Label, Dialog, Described string }
	p.eval(`(() => { const e = document.activeElement; return { type: e.type, autocomplete: e.autocomplete, name: e.name, label: e.labels[0]?.innerText,
		dialog: e.closest("dialog").getAttribute("aria-label"), described: document.getElementById(e.getAttribute("aria-describedby")).getAttribute("role") }; })()`, &field)
	if want := (struct{ Type, Autocomplete, Name, Label, Dialog, Described string }{"password", "off", "", "API key", "Sign in", "alert"}); field != want {
		t.Errorf("the field is %+v, want %+v", field, want)
	}
	p.shoot("login")
	p.press("Escape")
	p.wait("the question put off", `!document.querySelector("dialog") && `+hasText("#badge-text", "signed out")+"&&"+hasText("#list", "Nobody is signed in"))
	p.wait("no verbs for nobody", `document.querySelector("#submit").hidden && document.querySelector("#who").hidden`)
	p.press("n")
	p.eval(`document.querySelector("#sign").click()`, nil)
	p.wait("the question again", asksForKey)

	for _, wrong := range []string{"trp_wrong", "trp wrong", "trp_\u00fc", ownersKey[:20]} {
		p.signIn(wrong)
		p.wait("a word on "+wrong, `document.querySelector("#key-wrong").textContent !== "" && document.activeElement.getAttribute("aria-invalid") === "true"`)
		p.eval(`document.querySelector("#key-wrong").textContent = ""`, nil)
	}
	p.shoot("login-wrong")
	p.signIn("  " + ownersKey + " ")
	p.wait("the page of who has the key", isLive+` && !document.querySelector("dialog") && `+hasText("#detail .state", "running"))
	p.wait("who it is", hasText("#namespace", "acme")+"&&"+hasText("#scopes", "tasks:read tasks:write")+`&& document.querySelector("#sign").textContent === "Sign out"`)
	p.wait("the verbs", `!document.querySelector("#submit").hidden && !document.querySelector("#demo").hidden && `+hasText(".verbs", "Cancel"))
	p.hides(s, ownersKey)

	// Every connection has a ticket of its own.
	s.drop(0)
	s.say(id, task.EventProgress, object{"fraction": 0.5, "message": "half"})
	p.wait("what is new", hasText("#detail .how", "half"))
	s.mu.Lock()
	used, wrong := slices.Clone(s.door.used), s.door.wrong
	s.mu.Unlock()
	if len(used) < 2 || len(slices.Compact(slices.Sorted(slices.Values(used)))) != len(used) {
		t.Errorf("tickets used: %q, want another for each of at least 2 connections", used)
	}
	if wrong != 2 {
		t.Errorf("%d wrong keys were sent, want the 2 that could be keys, once each", wrong)
	}
	again, err := http.Get(s.URL + "/v1/ws?ticket=" + used[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Body.Close()
	if again.StatusCode != http.StatusUnauthorized {
		t.Errorf("a ticket used again: got %d", again.StatusCode)
	}

	// It lasts as long as the tab, and for the tab alone.
	p.call("Page.reload", object{})
	p.wait("signed in after a reload", isLive+"&&"+hasText("#namespace", "acme"))
	other := b.open(s.URL)
	other.wait("the question in another tab", asksForKey)
	p.hides(s, ownersKey)
	p.forgive("401")
	p.clean()
	other.forgive("401")
	other.clean()
}

func TestARevokedKeyIsAskedForAgainAndNothingIsMissed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.close(keysOfAll())
	id := s.add(transport.Task{Kind: "demo.stream", State: task.Running})
	p := startBrowser(t).open(s.URL + "/#/task/" + id + "?tab=events")
	chunks := func(from, to int) {
		for i := from; i < to; i++ {
			s.say(id, task.EventOutput, object{"chunk": object{"i": i}})
		}
	}
	chunks(0, 50)
	p.signIn(ownersKey)
	p.wait("what there is", `document.querySelectorAll("#panel-events .l").length === 52`)
	chunks(50, 60)
	s.revoke(ownersKey, 4401)
	chunks(60, 100)
	p.wait("the question, and why", asksForKey+"&&"+hasText("dialog", "not accepted any more"))
	// What is asked meanwhile waits for the same answer.
	p.eval(`dispatchEvent(new Event("online")); document.querySelector("#badge").click()`, nil)
	var stored int
	p.eval(`sessionStorage.length + localStorage.length`, &stored)
	if stored != 0 {
		t.Error("the page keeps a key that is no good any more")
	}
	s.give(secondKey, passOf("acme", access.TasksRead, access.TasksWrite), "")
	p.signIn(secondKey)
	p.wait("live again", isLive+` && !document.querySelector("dialog")`)
	chunks(100, 150)
	p.wait("all of it", `document.querySelectorAll("#panel-events .l").length >= 152`)
	var cursors []string
	p.eval(`[...document.querySelectorAll("#panel-events .g")].map((g) => g.textContent)`, &cursors)
	want := []string{"0.1"}
	for i := range 151 {
		want = append(want, "1."+strconv.Itoa(i+1))
	}
	if !slices.Equal(cursors, want) {
		t.Errorf("shown are %q, want each event once", cursors)
	}

	// A key of somebody else's finds nothing of what was shown.
	s.revoke(secondKey, 4401)
	p.signIn(othersKey)
	p.wait("the other's empty page", isLive+"&&"+hasText("#namespace", "other")+` && location.hash === "" && document.querySelector("#detail").hidden`)
	for _, key := range []string{ownersKey, secondKey, othersKey} {
		p.hides(s, key)
	}
	p.forgive("401")
	p.clean()
}

func TestWhoSignsOutLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.close(keysOfAll())
	s.add(transport.Task{Kind: "exec", State: task.Running})
	b := startBrowser(t)
	p := b.open(s.URL)
	p.wait("the question", asksForKey)
	p.eval(`document.querySelector("dialog input[type=checkbox]").click(); document.querySelector("dialog input").focus()`, nil)
	p.signIn(ownersKey)
	p.wait("signed in", isLive+"&&"+hasText("#list", "exec"))
	var inTab, machine int
	p.eval(`sessionStorage.length`, &inTab)
	p.eval(`localStorage.length`, &machine)
	if inTab != 0 || machine != 1 {
		t.Errorf("kept for the tab: %d, on the machine: %d, want it on the machine", inTab, machine)
	}
	other := b.open(s.URL)
	other.wait("signed in on the same machine", isLive+"&&"+hasText("#list", "exec"))
	own := b.open(s.URL)
	own.wait("a third", isLive)
	own.eval(`localStorage.removeItem("troupe.key")`, nil) // so that it is asked
	own.call("Page.reload", object{})
	own.signIn(readersKey)
	own.wait("signed in by itself", isLive+"&&"+hasText("#scopes", "tasks:read"))

	p.eval(`localStorage.setItem("troupe.key", `+js(ownersKey)+`); document.querySelector("#sign").click()`, nil)
	for _, page := range []*tab{p, other} {
		page.front()
		page.wait("signed out", asksForKey+` && localStorage.length + sessionStorage.length === 0 && !document.body.textContent.includes("exec")`)
		page.press("Escape")
		page.wait("still signed out", hasText("#list", "Nobody is signed in"))
	}
	own.front()
	own.wait("still signed in, with a key of its own", isLive+"&&"+hasText("#list", "exec"))
	for _, page := range []*tab{p, other, own} {
		page.hides(s, ownersKey)
		page.forgive("401")
		page.clean()
	}
}

func TestThePageOffersWhatTheKeyAllows(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.close(keysOfAll())
	id := s.add(transport.Task{Kind: "exec", State: task.Running})
	b := startBrowser(t)

	reader := b.open(s.URL + "/#/task/" + id)
	reader.signIn(readersKey)
	reader.wait("what may be read", isLive+"&&"+hasText("#detail .state", "running")+"&&"+hasText("#list", "exec"))
	reader.press("n")
	var offered []string
	reader.eval(`[...document.querySelectorAll("#submit, #demo, .verbs button, #list .empty button, dialog")].filter((e) => e.checkVisibility()).map((e) => e.textContent)`, &offered)
	if len(offered) != 0 {
		t.Errorf("a reader is offered %q", offered)
	}
	reader.press("?")
	reader.wait("the keys", hasText("dialog", "Filter"))
	reader.eval(`if (document.querySelector("dialog").textContent.includes("Submit")) throw new Error("a key that does nothing")`, nil)
	reader.press("Escape")
	reader.shoot("reader")

	writer := b.open(s.URL + "/#/task/" + id)
	writer.signIn(writersKey)
	writer.wait("a word on the list", isLive+"&&"+hasText("#list", "may not read tasks")+"&&"+hasText("#detail", "may not read tasks"))
	writer.press("n")
	writer.wait("the form", `document.querySelector("dialog[open] [name=kind]")`)
	writer.eval(`document.querySelector("dialog [name=kind]").value = "demo.echo"; document.querySelector("dialog form").requestSubmit()`, nil)
	writer.wait("that it was submitted", `!document.querySelector("dialog") && `+hasText("#toasts", "Submitted"))
	writer.eval(`if (document.querySelectorAll("tbody tr").length) throw new Error("a list")`, nil)

	// What the door forbids from here on it forbids to all, and the others ask for it, too.
	for _, p := range []*tab{reader, writer} {
		p.forgive("401")
		p.clean()
	}

	// What the server forbids all the same is said.
	s.mu.Lock()
	s.door.forbids = "/cancel"
	s.mu.Unlock()
	owner := b.open(s.URL + "/#/task/" + id)
	owner.signIn(ownersKey)
	owner.wait("the verb", isLive+"&&"+hasText(".verbs", "Cancel"))
	owner.eval(`document.querySelector(".verbs button").click()`, nil)
	owner.wait("the question first", `document.querySelector("dialog[open] .danger")`)
	owner.eval(`document.querySelector("dialog .danger").click()`, nil)
	owner.wait("the refusal", hasText("#toasts", "does not have the scope")+` && !document.querySelector(".verbs button").disabled`)
	s.mu.Lock()
	s.door.forbids = "/stats"
	s.mu.Unlock()
	owner.eval(`document.querySelector(".toast").click()`, nil)
	s.say(id, task.EventState, object{"state": "succeeded", "attempt": 1})
	owner.wait("what is forbidden besides", hasText("#toasts", "does not have the scope"))

	// A connection that is not allowed is not tried again.
	s.drop(4403)
	owner.wait("the word on it", `document.querySelector("#badge").dataset.status === "refused" && `+hasText("#badge-text", "forbidden")+"&&"+hasText("#toasts", "as the test wants"))
	owner.eval(`dispatchEvent(new Event("online")); new Promise((r) => setTimeout(r, 1000))`, nil)
	owner.wait("the same later", hasText("#badge-text", "forbidden"))
	owner.forgive("403")
	owner.forgive("401")
	owner.clean()
}

func TestServersThatAskForNoKey(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	old := newStage(t)
	old.door.old = true
	p := b.open(old.URL)
	p.wait("the whole page", isLive+` && !document.querySelector("#submit").hidden && document.querySelector("#sign").hidden && document.querySelector("#who").hidden`)
	p.forgive("404")
	p.clean()

	// One that asks for none, but does not take one that it does not know.
	open := newStage(t)
	p = b.open(open.URL)
	p.wait("live", isLive)
	p.eval(`sessionStorage.setItem("troupe.key", `+js(ownersKey)+`)`, nil)
	p.call("Page.reload", object{})
	p.wait("open", isLive+` && !document.querySelector("#submit").hidden && document.querySelector("#sign").hidden && !document.querySelector("dialog")`)

	// It asks for keys from now on: what its namespace was is not what the key's is.
	open.close(keysOfAll())
	open.drop(0)
	open.mu.Lock()
	open.door.wait = "7"
	open.mu.Unlock()
	p.signIn("trp_guess")
	p.wait("how long to wait", hasText("#key-wrong", "Try again in 7.0 s."))
	p.signIn(ownersKey)
	p.wait("signed in", isLive+"&&"+hasText("#namespace", "acme"))
	p.forgive("401")
	p.forgive("429")
	p.clean()
}

func TestAResultIsSavedWithTheKey(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.close(keysOfAll())
	const result = `{ "big":9007199254740993, "x": 1.0, "umlaut":"\u00fc ü" }`
	id := s.add(transport.Task{Kind: "exec", State: task.Running})
	s.say(id, task.EventState, object{"state": "succeeded", "attempt": 1})
	s.mu.Lock()
	s.acts[id].task.Result = json.RawMessage(result)
	s.mu.Unlock()
	b := startBrowser(t)
	folder := b.download()
	p := b.open(s.URL + "/#/task/" + id + "?tab=result")
	p.signIn(readersKey)
	p.wait("the result", hasText("#panel-result", "9007199254740993"))
	p.eval(`[...document.querySelectorAll("#panel-result button")].find((b) => b.textContent === "Download").click()`, nil)
	select {
	case <-b.saved:
	case <-time.After(patience):
		t.Fatal("nothing was saved")
	}
	got, err := os.ReadFile(filepath.Join(folder, id+".json"))
	if err != nil || string(got) != result {
		t.Errorf("saved %q, %v, want the result byte for byte", got, err)
	}
	s.mu.Lock()
	delete(s.acts, id)
	s.mu.Unlock()
	p.eval(`[...document.querySelectorAll("#panel-result button")].find((b) => b.textContent === "Download").click()`, nil)
	p.wait("that it is gone", hasText("#toasts", "no such task"))
	p.hides(s, readersKey)
	p.forgive("401")
	p.forgive("404")
	p.clean()
}
