package dashboard_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// watchful is run before the page. It notes every element that no code of the page
// has made, and every attribute that could run something or lead elsewhere; and it
// has frames come at once, for there are many.
const watchful = `{
	window.strange = [];
	window.builtin = Reflect.ownKeys(Object.prototype).concat(Reflect.ownKeys(Array.prototype)).map(String).join();
	window.requestAnimationFrame = (draw) => setTimeout(draw, 0);
	const made = new WeakSet();
	for (const name of ["createElement", "createElementNS"]) {
		const real = Document.prototype[name];
		Document.prototype[name] = function (...of) {
			const node = real.apply(this, of);
			made.add(node);
			return node;
		};
	}
	const attribute = (e, { name, value }) => {
		const fine = name === "style" ? e.matches(".bar i, dialog, html")
			: name === "href" ? value.startsWith("#/")
			: !/^(on.*|src|srcdoc|srcset|action|formaction|data|ping|xlink:href|background|poster|is|nonce|integrity)$/i.test(name);
		if (!fine) strange.push(e.localName + " " + name + "=" + value.slice(0, 100));
	};
	const element = (e) => {
		if (!made.has(e)) strange.push(e.outerHTML.slice(0, 200));
		else for (const each of e.attributes) attribute(e, each);
	};
	document.addEventListener("readystatechange", () => {
		for (const e of document.querySelectorAll("*")) made.add(e);
		new MutationObserver((changes) => {
			for (const { type, target, attributeName, addedNodes } of changes) {
				if (type === "attributes" && target.hasAttribute(attributeName)) attribute(target, target.getAttributeNode(attributeName));
				for (const node of addedNodes) if (node.nodeType === 1) [node, ...node.querySelectorAll("*")].forEach(element);
			}
		}).observe(document, { childList: true, subtree: true, attributes: true });
	}, { once: true });
}`

// show leads the page past everything there is to see, and gives what it has not
// shown. It is given texts, the tasks that failed with each, and the tasks that
// talk and wait.
const show = `window.show = async ({ texts, groups, failed, running, whole, talks, waits, namespace, numbers }) => {
	const wrong = [];
	const $ = (selector) => document.querySelector(selector);
	const says = (selector, text) => $(selector).textContent.includes(text);
	const until = async (what, is) => {
		for (const end = performance.now() + 120_000; ; await new Promise((r) => setTimeout(r, 10))) {
			try { if (is()) return; } catch {}
			if (performance.now() > end) throw new Error("waited in vain: " + what.slice(0, 200) + " at " + location.hash.slice(0, 200));
		}
	};
	const row = (id) => 'tr[data-id="' + id + '"] .message';

	await until("who is here", () => $("#namespace").textContent === namespace && says("#scopes", texts.at(-1)) && $("#who").title.includes(texts[0]));
	await until("the list", () => document.querySelectorAll("tbody tr").length === Math.min(200, 2 * texts.length + groups.length + 2));
	for (const [i, text] of texts.entries()) {
		await until("in the list as an error: " + text, () => says(row(failed[i]), text.slice(0, 200)));
		await until("in the list as progress: " + text, () => says(row(running[i]), text.slice(0, 200)));
	}

	const all = "?q=" + encodeURIComponent("nothing that is in the list");
	for (const [i, group] of groups.entries()) {
		const text = group.join("\n");
		location.hash = "#/task/" + whole[i] + all;
		await until("of one task: " + text, () => $("#detail .copy").textContent === whole[i] && says("#panel-result strong", text) &&
			says("#panel-result p", text) && says(".how .line", text));
		const details = $("#panel-result pre").textContent, facts = $("#detail dl").textContent;
		for (const each of group) {
			if (!details.includes(JSON.stringify(each)) || !facts.includes(each + "=" + each)) wrong.push("not shown: " + each.slice(0, 100));
		}
	}

	const last = texts.at(-1);
	location.hash = "#/task/" + talks + all + "&tab=output";
	await until("the output", () => says("#panel-output", JSON.stringify(last).slice(0, 1000)));
	for (const [tab, panel] of ["output", "logs", "events", "result", "input", "attempts"].entries()) {
		document.querySelectorAll("[role=tab]")[tab].click();
		await until(panel, () => !$("#panel-" + panel).hidden && says("#panel-" + panel, panel === "attempts" ? last : JSON.stringify(last).slice(1, 300)));
		document.body.offsetHeight;
	}
	document.querySelectorAll("[role=tab]")[1].click();
	await until("as logs", () => {
		const logs = $("#panel-logs").textContent;
		return texts.every((text) => logs.includes(text.slice(0, 1000)));
	});
	document.querySelectorAll("[role=tab]")[4].click();
	const input = $("#panel-input").textContent;
	for (const text of numbers) if (!input.includes(": " + text)) wrong.push("not shown: " + text.slice(0, 100));

	location.hash = "#/task/" + waits + all;
	await until("why it waits", () => {
		const why = $("#detail .why").textContent;
		return texts.every((text) => why.includes(text));
	});

	for (const group of groups) {
		const text = group.join("\n");
		location.hash = "#/task/" + encodeURIComponent(text) + all;
		await until("as a problem of a task: " + text, () => $("#detail code").textContent === text && says("#detail p", text));
	}

	$("#submit").click();
	const form = $("dialog form");
	form.querySelector("[name=kind]").value = "exec";
	for (const group of groups) {
		const text = group.join("\n");
		form.querySelector("textarea").value = JSON.stringify(text);
		form.querySelector("textarea").dispatchEvent(new Event("input"));
		form.requestSubmit();
		await until("as a refusal: " + text, () => form.querySelector("[role=alert]").textContent === text + "\n" + text + " " + text && !form.querySelector(".primary").disabled);
	}
	$("dialog").close();
	for (const group of groups) {
		const text = group.join("\n");
		$("#demo").click();
		await until("in passing: " + text, () => $("#toasts").lastElementChild.textContent === text);
	}

	location.hash = "#/?q=" + encodeURIComponent(last);
	await until("as a filter", () => $("#filter").value !== "" && $("#detail").hidden);
	location.hash = "#/";
	await until("the list again", () => document.querySelectorAll("tbody tr").length > 0 && $("#badge").dataset.status === "live");
	$("#help").click();
	await until("a dialog", () => says("dialog[open]", "Keyboard"));
	$("dialog").close();
	if (window.pwned !== undefined || {}.pwned !== undefined) wrong.push("ran: " + window.pwned + {}.pwned);
	if (builtin !== Reflect.ownKeys(Object.prototype).concat(Reflect.ownKeys(Array.prototype)).map(String).join()) wrong.push("every object has something new");
	if (frames.length) wrong.push("there are frames");
	return wrong.concat(strange).slice(0, 20);
}`

// put has a namespace of texts, and tasks that say each of them in every field.
func (s *stage) put(texts []string) object {
	namespace := strings.Join(texts[:min(len(texts), 10)], " ")
	scopes := []access.Scope{access.Admin}
	for _, x := range texts {
		scopes = append(scopes, access.Scope(x))
	}
	s.close(map[string]*pass{ownersKey: {Namespace: namespace, Actor: texts[0], Scopes: scopes}})
	groups := slices.Collect(slices.Chunk(texts, 25))
	var failed, running, whole []string
	for _, group := range groups {
		whole = append(whole, s.fail(group...))
	}
	for _, x := range texts {
		failed = append(failed, s.fail(x))
		running = append(running, s.run(x))
	}
	talks, numbers := s.talk(texts)
	return object{
		"texts": texts, "groups": groups, "whole": whole, "failed": failed, "running": running, "talks": talks, "numbers": numbers,
		"waits": s.add(transport.Task{Kind: "exec"}), "namespace": namespace,
	}
}

// run has a task run that is called texts in all respects.
func (s *stage) run(texts ...string) (id string) {
	x, each := strings.Join(texts, "\n"), map[string]string{}
	resources := task.Resources{}
	kind, queue := "exec", ""
	for _, text := range texts {
		each[text], resources[text] = text, 1
		if task.ValidName(text) {
			kind, queue = text, text
		}
	}
	id = s.add(transport.Task{
		Kind: kind, Queue: queue, Labels: each, UniqueKey: x, BatchID: x, Timeout: x, Resources: resources, ConcurrencyKey: x, StickyKey: x,
		Payload: json.RawMessage(js(x)), Waiting: &transport.Waiting{Reason: x, Resource: x, Tasks: texts, Node: x, Signal: x},
	})
	s.say(id, task.EventState, object{"state": "running", "attempt": 1, "node": x, "worker": x + x, "reason": x})
	s.say(id, task.EventProgress, object{"fraction": 0.5, "message": x})
	return id
}

// fail has such a task fail by an error that is called so too.
func (s *stage) fail(texts ...string) (id string) {
	x, each := strings.Join(texts, "\n"), map[string]string{}
	for _, text := range texts {
		each[text] = text
	}
	id = s.run(texts...)
	s.say(id, task.EventState, object{"state": "failed", "attempt": 1, "reason": x, "error": object{"code": x, "message": x, "details": each}})
	return id
}

// talk is one task that says all of the texts, one after the other.
func (s *stage) talk(texts []string) (id string, figures []string) {
	all, payload := map[string]string{}, []string{}
	for _, x := range texts {
		all[x] = x
		payload = append(payload, js(x)+":"+js(x))
		if json.Valid([]byte(x)) && strings.Trim(x[:1], "-0123456789") == "" {
			payload = append(payload, fmt.Sprintf(`"number %d":%s`, len(figures), x))
			figures = append(figures, x)
		}
	}
	id = s.add(transport.Task{Kind: "exec", Payload: json.RawMessage("{" + strings.Join(payload, ",") + "}")})
	for i, x := range texts {
		s.say(id, task.EventState, object{"state": "running", "attempt": i + 1, "node": x, "worker": x, "reason": x})
		s.say(id, task.EventProgress, object{"fraction": 0.5, "message": x})
		s.say(id, task.EventLog, object{"level": x, "message": x, "fields": object{x: x, "o": object{x: x}}})
		s.say(id, task.EventLog, object{"level": "error", "message": x, "fields": x})
		s.say(id, task.EventOutput, object{"text": x + "\n"})
		s.say(id, task.EventOutput, object{"base64": x})
		s.say(id, task.EventOutput, object{"chunk": object{x: x}})
		if i < len(texts)-1 {
			s.say(id, task.EventState, object{"state": "scheduled", "attempt": i + 1, "error": object{"code": x, "message": x, "details": object{x: x}}})
		}
	}
	// What would take a pattern that begins anew at each character for ever.
	s.say(id, task.EventOutput, object{"text": strings.Repeat("\r", 1<<20) + "x\n"})
	s.say(id, task.EventOutput, object{"base64": strings.Repeat("=", 1<<20) + "x"})
	last := texts[len(texts)-1]
	s.say(id, task.EventState, object{"state": "scheduled", "attempt": len(texts), "error": object{"code": last, "message": last}})
	s.say(id, task.EventState, object{"state": "succeeded", "attempt": len(texts), "result": all})
	return id, figures
}

// elsewhere is a proxy that stands for all the world but the server, and counts who
// comes.
func elsewhere(t *testing.T) (argument string, came func() []string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.Host, "elsewhere") { // not what a browser asks for by itself
			asked = append(asked, r.Method+" "+r.Host+r.URL.Path)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(proxy.Close)
	return "--proxy-server=" + proxy.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
}

var allStrings = flag.Bool("all-strings", false, "have TestNoStringRunsWhereverItStands show every string, and not every other one")

func TestNoStringRunsWhereverItStands(t *testing.T) {
	t.Parallel()
	const perPage = 96
	corpus := hostile()
	if !*allStrings {
		all := corpus
		corpus = nil
		for i := 0; i < len(all); i += 2 {
			corpus = append(corpus, all[i])
		}
	}
	if len(corpus) < 300 {
		t.Fatalf("%d strings, want 300 or more", len(corpus))
	}
	pages := make([][]string, (len(corpus)+perPage-1)/perPage)
	for i, x := range corpus { // the long ones apart
		pages[i%len(pages)] = append(pages[i%len(pages)], x)
	}
	through, came := elsewhere(t)
	b := startBrowser(t, through, "--disable-ipc-flooding-protection")
	for i, texts := range pages {
		s := newStage(t)
		s.why, s.echoes = strings.Join(texts, "\n"), true
		shown := s.put(texts)
		for range 2 {
			for group := range slices.Chunk(texts, 25) {
				s.refusals = append(s.refusals, strings.Join(group, "\n"))
			}
		}
		p := b.open("about:blank")
		p.call("Page.addScriptToEvaluateOnNewDocument", object{"source": watchful + show})
		p.call("Page.navigate", object{"url": s.URL})
		p.signIn(ownersKey)
		input, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		var wrong []string
		p.eval("show("+string(input)+").catch((e) => [e.message].concat(window.strange.slice(0, 20)))", &wrong)
		for _, w := range wrong {
			t.Errorf("page %d: %s", i, w)
		}
		p.forgive("401")
		p.forgive("422")
		p.clean()
		if t.Failed() {
			return // the other pages would wait in vain as long
		}
	}
	t.Logf("%d strings on %d pages", len(corpus), len(pages))
	if asked := came(); len(asked) > 0 {
		t.Errorf("asked for elsewhere: %q", asked)
	}
}

// What shows that nothing runs has to be seen to show it when something does.
func TestHostileStringsDoRunWhereTheyAreMarkup(t *testing.T) {
	t.Parallel()
	through, came := elsewhere(t)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(plain.Close)
	p := startBrowser(t, through).open(plain.URL)
	p.eval(`window.ran = new Set(); Object.defineProperty(window, "pwned", { set: (n) => ran.add(n) });
		window.kept = `+js(strings.Join(hostile(), "\x00\x00"))+`.split("\0\0").map((text) => { const e = document.createElement("div"); e.innerHTML = text; return e; })`, nil)
	p.wait("what runs", `ran.size >= 40`)
	p.eval(`fetch("http://elsewhere.invalid/canary", { mode: "no-cors" }).then(() => true)`, nil)
	if len(came()) == 0 {
		t.Error("nothing came to who stands for elsewhere")
	}
}
