// The question for an API key.
import { h, modal } from "./dom.js";
import { duration } from "./format.js";

// What a header can carry.
const sendable = /^[\x21-\x7e]{1,8192}$/;

function wording(problem) {
  if (problem.status === 401) return "The server refuses this key. It may be mistyped, expired or revoked.";
  return problem.message + (problem.retryAfter ? " Try again in " + duration(problem.retryAfter) + "." : "");
}

/**
 * askKey asks for a key until one is good, or the question is put off, and says
 * which. check(key) gives a function that takes the key, onThisMachine or not.
 * again: there was one, and it is no good any more.
 */
export function askKey(again, check) {
  // Without a name, no form ever sends it anywhere.
  const key = h("input", {
    type: "password", required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    "aria-describedby": "key-wrong", placeholder: "trp_…",
  });
  const stay = h("input", { type: "checkbox" });
  const wrong = h("p", { class: "wrong", id: "key-wrong", role: "alert" });
  const send = h("button", { class: "primary" }, "Sign in");
  const form = h("form", { autocomplete: "off" },
    h("h2", null, "Sign in"),
    h("p", { class: "soft" }, again ? "The key is not accepted any more: it has expired or was revoked." : "This server asks for an API key."),
    h("label", { class: "field" }, h("span", null, "API key"), key), wrong,
    h("label", { class: "check" }, stay, "Keep me signed in on this machine"),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Not now"), send));
  const dialog = modal("Sign in", form);
  dialog.classList.add("small");

  const refuse = (text) => {
    wrong.textContent = text;
    key.setAttribute("aria-invalid", text !== "");
    if (text !== "") key.select();
  };
  let busy = false;
  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const given = key.value.trim();
      if (busy) return;
      if (!sendable.test(given)) return refuse("This cannot be a key: it has spaces or letters that no key has.");
      refuse("");
      busy = send.disabled = true;
      try {
        const take = await check(given);
        if (!dialog.open) return; // put off meanwhile
        await take(stay.checked);
        resolve(true);
        dialog.close();
      } catch (problem) {
        refuse(wording(problem));
      } finally {
        busy = send.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      key.value = "";
      resolve(false);
    });
    key.focus();
  });
}
