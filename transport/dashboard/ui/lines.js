// A log of bounded size: so many lines and so many characters, of which the
// newest stay. It is drawn in pages, so that a browser lays out what is seen.
import { h, onFrame } from "./dom.js";
import { clip, count } from "./format.js";

const mostLines = 5_000;
const mostCharacters = 4_000_000;
const mostInLine = 8_000;
const pageLines = 100;
const drawnAtOnce = 1_500;

export class Lines {
  #lines = [];
  #dropped = 0;
  #drawn = 0; // of all lines ever, dropped ones too
  #characters = 0;
  #pages = []; // {node, from, count}
  #last = null; // the last line's node
  #rewritten = false;
  #scroll;
  #note;
  #empty;
  #make;
  #shown = false;
  #stick = true;
  #top = 0;
  #drop = 0; // lines at the front that are as good as gone

  /** make draws one line; empty is shown while there is none. */
  constructor(make, empty) {
    this.#make = make;
    this.#note = h("p", { class: "note", hidden: true });
    this.#empty = h("div", { class: "nothing" }, empty);
    this.#scroll = h("div", { class: "scroll", tabindex: 0 }, this.#note, this.#empty);
    this.#scroll.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
      // Only who scrolls up leaves the end: it also moves away by itself as lines come.
      if (scrollHeight - scrollTop - clientHeight < 24) this.#stick = true;
      else if (scrollTop < this.#top - 2) this.#stick = false;
      this.#top = scrollTop;
      this.follow.hidden = this.#stick;
    }, { passive: true });
    this.follow = h("button", { type: "button", class: "follow", hidden: true, onclick: () => { this.#stick = true; this.#toEnd(); } }, "Follow ↓");
    this.node = h("div", { class: "lines" }, this.#scroll, this.follow);
  }

  /** count is of what the task said itself, without our own marks. */
  count = 0;

  get total() { return this.#dropped + this.#lines.length; }

  push(line) {
    line.text = clip(line.text, mostInLine);
    this.#lines.push(line);
    if (line.kind !== "mark") this.count++;
    this.#characters += line.text.length;
    while (this.#lines.length - this.#drop > mostLines || this.#characters > mostCharacters && this.#lines.length - this.#drop > 1) {
      this.#characters -= this.#lines[this.#drop].text.length;
      this.#drop++;
    }
    // Cutting an array costs its length: done once for many.
    if (this.#drop > mostLines) this.#cut();
    this.#ask();
  }

  #cut() {
    this.#lines.splice(0, this.#drop);
    this.#dropped += this.#drop;
    this.#drop = 0;
  }

  /** last is the newest line; rewrite says it again after its text has changed. */
  get last() { return this.#lines[this.#lines.length - 1]; }

  rewrite(text) {
    const line = this.last;
    this.#characters -= line.text.length;
    line.text = clip(text, mostInLine);
    this.#characters += line.text.length;
    this.#rewritten = true;
    this.#ask();
  }

  clear() {
    this.#lines = [];
    this.#drop = this.#dropped = this.#drawn = this.#characters = this.count = 0;
    for (const page of this.#pages) page.node.remove();
    this.#pages = [];
    this.#last = null;
    this.#ask();
  }

  show(shown) {
    this.#shown = shown;
    this.node.hidden = !shown;
    this.#ask();
  }

  #draw = () => this.draw();
  #ask() { if (this.#shown) onFrame(this.#draw); }

  draw() {
    if (!this.#shown) return;
    this.#cut();
    this.#empty.hidden = this.total > 0;
    if (this.#rewritten && this.#drawn > this.#dropped) this.#redrawLast();
    this.#rewritten = false;
    this.#drawn = Math.max(this.#drawn, this.#dropped);
    const until = Math.min(this.total, this.#drawn + drawnAtOnce);
    while (this.#drawn < until) this.#drawPage(until);
    this.#forgetPages();
    this.#note.hidden = this.#dropped === 0;
    this.#note.textContent = count(this.#dropped) + " earlier lines are not kept on this page; the API has them.";
    if (this.#stick) this.#toEnd();
    if (this.#drawn < this.total) this.#ask();
  }

  #redrawLast() {
    const again = this.#make(this.#lines[this.#drawn - this.#dropped - 1]);
    this.#last.replaceWith(again);
    this.#last = again;
  }

  #drawPage(until) {
    let page = this.#pages[this.#pages.length - 1];
    if (!page || page.count >= pageLines || page.from + page.count !== this.#drawn) {
      page = { node: h("div", { class: "page" }), from: this.#drawn, count: 0 };
      this.#pages.push(page);
      this.#scroll.append(page.node);
    }
    const batch = document.createDocumentFragment();
    for (; this.#drawn < until && page.count < pageLines; this.#drawn++, page.count++) {
      this.#last = this.#make(this.#lines[this.#drawn - this.#dropped]);
      batch.append(this.#last);
    }
    page.node.append(batch);
  }

  #forgetPages() {
    while (this.#pages.length > 1 && this.#pages[0].from + this.#pages[0].count <= this.#dropped) {
      this.#pages.shift().node.remove();
    }
  }

  #toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.follow.hidden = true;
  }
}
