/* Switchboard's own behaviours, bound by data- attributes. Listeners sit on the document, so swapped fragments need no set-up. */
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const body = document.body;
  const say = (key, values = {}) => (body.dataset[key] || "").replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  const on = (type, selector, handler, capture = false) => document.addEventListener(type, (event) => {
    const node = event.target.closest?.(selector);
    if (node) handler(event, node);
  }, capture);
  // Work that follows a swap, once per answer and before it is painted; `loaded` tells that the dialog got new content.
  const followUps = [];
  const after = (handler) => followUps.push(handler);
  let due = false;
  let loaded = false;
  for (const type of ["htmx:afterSwap", "htmx:afterSettle", "htmx:oobAfterSwap"]) {
    document.addEventListener(type, (event) => {
      loaded ||= type === "htmx:afterSwap" && Boolean(event.target.closest("#dialog-body"));
      if (due) return;
      due = true;
      queueMicrotask(() => { due = false; followUps.forEach((handler) => handler()); loaded = false; });
    });
  }

  /* ---- HTMX: morphing keeps what a person is doing ------------------------------------------------------------- */
  if (window.Idiomorph) {
    Idiomorph.defaults.ignoreActiveValue = true;
    // An open menu or <details> stays open when the region around it is polled.
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
      !(node.matches(".show") && /^(class|style|aria-expanded|data-popper)/.test(name)) && !(name === "open" && node.localName === "details");
  }
  // A button that stayed while its menu was replaced would open the old menu, which nobody sees: it looks for its menu anew.
  after(() => $$('[data-bs-toggle="dropdown"]').forEach((button) => {
    const dropdown = window.tabler?.Dropdown.getInstance(button);
    if (!dropdown || dropdown._menu?.isConnected) return;
    dropdown.dispose();
    button.classList.remove("show");
    button.setAttribute("aria-expanded", "false");
  }));

  /* ---- Toasts --------------------------------------------------------------------------------------------------- */
  function toast({message, value, level = "info", undo_url: undoUrl, undo_label: undoLabel}) {
    const words = message ?? value ?? "";
    if (!undoUrl) $$("[data-toast]").filter((old) => $("[data-toast-text]", old).textContent === words).forEach((old) => old.remove());
    const pattern = $(`#toast-${level === "error" ? "danger" : level}`) || $("#toast-info");
    const node = pattern.content.firstElementChild.cloneNode(true);
    $("[data-toast-text]", node).textContent = words;
    if (undoUrl) {
      const undo = $("[data-toast-undo]", node);
      Object.assign(undo, {hidden: false, textContent: undoLabel || say("textUndo")});
      undo.addEventListener("click", () => {
        node.remove();
        htmx.ajax("POST", undoUrl, {source: body, target: body, swap: "none"});
      });
    }
    const home = $("dialog[open]") || body;  // what lies outside an open dialog can be neither seen nor reached
    if ($("#toasts").parentNode !== home) home.append($("#toasts"));
    $("#toasts").append(node);
    fade(node, undoUrl ? 10000 : 7000);
  }
  function fade(node, delay) {
    if (node.matches('[role="alert"]')) return;  // failures wait until they are read
    setTimeout(() => (node.matches(":hover, :focus-within") ? fade(node, 2000) : node.remove()), delay);
  }
  document.addEventListener("toast", (event) => toast(event.detail));
  on("click", "[data-toast-close]", (event, button) => button.closest("[data-toast]").remove());
  $$("[data-toast]").forEach((node) => fade(node, 7000));

  /* ---- Dialogs: one for loaded content, one for questions --------------------------------------------------------- */
  function ask(question, okText) {
    const dialog = $("#confirm");
    $("#confirm-text").textContent = question;
    $("#confirm-ok").textContent = okText || say("textConfirmOk");
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), {once: true}));
  }
  const agreed = new WeakSet();
  function confirmFirst(event, node, repeat) {
    if (agreed.delete(node)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    ask(node.dataset.confirm, node.dataset.confirmOk).then((yes) => { if (yes) { agreed.add(node); repeat(); } });
  }
  on("click", "a[data-confirm], button[data-confirm]", (event, node) => confirmFirst(event, node, () => node.click()), true);
  on("submit", "form[data-confirm]", (event, form) => confirmFirst(event, form, () => form.requestSubmit(event.submitter)), true);

  async function closeDialog(dialog) {
    const form = $$("[data-unsaved-guard]", dialog).find(isDirty);
    if (!form || await ask(say("textLeave"), say("textLeaveOk"))) dialog.close();
  }
  on("click", "[data-dialog-close]", (event, node) => closeDialog(node.closest("dialog")));
  on("click", "[data-dialog-open]", (event, node) => $(`#${node.dataset.dialogOpen}`).showModal());
  document.addEventListener("dialog-close", () => $("#dialog")?.close());
  document.addEventListener("cancel", (event) => {
    if (event.target.id === "dialog") { event.preventDefault(); closeDialog(event.target); }
  }, true);
  document.addEventListener("close", (event) => {
    if (event.target.contains($("#toasts"))) body.append($("#toasts"));
    if (event.target.id === "dialog") $("#dialog-body").replaceChildren();
  }, true);
  after(() => {
    const dialog = $("#dialog");
    if (!loaded || dialog.open) return;
    dialog.showModal();
    $("[data-autofocus]", dialog)?.focus();
  });

  /* ---- Requests: progress, failures, a session that ended ---------------------------------------------------------- */
  const byPerson = (event) => Boolean(event.detail.requestConfig?.triggeringEvent);  // a poll has no triggering event
  let open = 0;
  let held = null;  // the row that had the focus when its list was replaced
  const progress = (step) => { open = Math.max(0, open + step); body.classList.toggle("is-loading", open > 0); };
  document.addEventListener("htmx:beforeRequest", (event) => { if (byPerson(event)) progress(1); });
  document.addEventListener("htmx:afterRequest", (event) => { if (byPerson(event)) progress(-1); });
  document.addEventListener("htmx:beforeSwap", () => { held = document.activeElement?.closest("[data-row]")?.id; });
  after(() => { if (held && document.activeElement === body) focusRow(document.getElementById(held)); });

  const polled = (event) => !byPerson(event) && event.detail.requestConfig?.verb === "get";
  let going = false;  // a page that is being left asks nothing more: what it shows may be gone by now
  window.addEventListener("beforeunload", () => { going = true; setTimeout(() => { going = false; }, 2000); });
  document.addEventListener("htmx:beforeRequest", (event) => { if (going && polled(event)) event.preventDefault(); });
  const noAnswer = (event) => {
    if (polled(event)) body.classList.add("is-offline");
    else toast({level: "danger", message: say(event.detail.requestConfig?.verb === "get" ? "textNotLoaded" : "textNotSaved")});
  };
  ["htmx:sendError", "htmx:timeout"].forEach((type) => document.addEventListener(type, noAnswer));
  document.addEventListener("htmx:afterOnLoad", () => body.classList.remove("is-offline"));
  document.addEventListener("htmx:responseError", (event) => {
    const {xhr} = event.detail;
    if (/"toast"/.test(xhr.getResponseHeader("HX-Trigger") || "")) return;  // the server said it better
    if (polled(event)) { body.classList.add("is-offline"); return; }
    const known = {403: "textForbidden", 404: "textMissing", 429: "textTooMany"}[xhr.status] || "textFailed";
    toast({level: "danger", message: say(known, {status: xhr.status})});
  });
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    const path = event.detail.xhr.getResponseHeader("HX-Redirect") || "";
    if (!path.startsWith(body.dataset.loginUrl) || !$$("[data-unsaved-guard]").some(isDirty)) return;
    event.preventDefault();  // leaving for the sign-in page would throw away what was typed
    toast({level: "warning", message: say("textExpired")});
  });

  /* ---- Forms -------------------------------------------------------------------------------------------------------- */
  const changed = (field) => {
    if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
    if (field.options) {
      const chosen = [...field.options].some((option) => option.defaultSelected);
      return [...field.options].some((option, i) => option.selected !== (chosen ? option.defaultSelected : i === 0 && !field.multiple));
    }
    return "defaultValue" in field && field.value !== field.defaultValue;
  };
  const isDirty = (form) => form.dataset.unsavedGuard === "dirty" || [...form.elements].some(changed);
  const leaving = new WeakSet();
  const guarded = () => $$("form[data-unsaved-guard]").filter((form) => !leaving.has(form) && isDirty(form));
  window.addEventListener("beforeunload", (event) => { if (guarded().length) event.preventDefault(); });
  on("submit", "form[data-unsaved-guard]", (event, form) => { if (!event.defaultPrevented) leaving.add(form); });
  document.addEventListener("htmx:beforeOnLoad", (event) => {  // saved: what is in the form is the new starting point
    const {elt, xhr} = event.detail;
    if (event.defaultPrevented || !elt.matches("form[data-unsaved-guard]") || xhr.status >= 300) return;
    elt.dataset.unsavedGuard = "";
    for (const field of elt.elements) {
      if ("defaultChecked" in field) field.defaultChecked = field.checked;
      if ("defaultValue" in field) field.defaultValue = field.value;
      for (const option of field.options || []) option.defaultSelected = option.selected;
    }
  });
  document.addEventListener("htmx:confirm", (event) => {
    const {target, elt, issueRequest, triggeringEvent} = event.detail;
    const lost = triggeringEvent && guarded().find((form) => target?.contains(form) && !form.contains(elt));
    if (!lost) return;
    event.preventDefault();
    ask(say("textLeave"), say("textLeaveOk")).then((yes) => { if (yes) issueRequest(true); });
  });

  on("submit", "form[data-once]", (event, form) => {
    if (event.defaultPrevented) return;
    setTimeout(() => $$("button", form).forEach((button) => { button.disabled = true; }));  // later, so that the pressed one is sent
  });
  window.addEventListener("pageshow", (event) => { if (event.persisted) $$("[data-once] button").forEach((button) => { button.disabled = false; }); });

  let typing;
  const submitSoon = (event, field) => {
    if (event.isComposing || field.matches("[data-no-autosubmit]")) return;  // not in the middle of a Chinese word
    clearTimeout(typing);
    const text = field.matches('input:not([type="checkbox"], [type="radio"]), textarea');
    typing = setTimeout(() => field.form?.requestSubmit(), text && event.type !== "change" ? 350 : 0);
  };
  ["input", "compositionend"].forEach((type) => on(type, "form[data-autosubmit] :is(input, textarea)", submitSoon));
  on("change", "form[data-autosubmit] select", submitSoon);
  on("formdata", "form[data-autosubmit]", (event) => {  // an address without empty parameters
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });

  on("click", "[data-copy], [data-copy-from]", async (event, node) => {
    try {
      await navigator.clipboard.writeText(node.dataset.copy || $(node.dataset.copyFrom).textContent.trim());
      toast({level: "success", message: say("textCopied")});
    } catch { toast({level: "warning", message: say("textNotCopied")}); }
  });

  /* ---- Editing in place ------------------------------------------------------------------------------------------ */
  function edit(wrap, open) {
    if (!wrap) return;
    const form = $("[data-inline-form]", wrap);
    if (!open) form.reset();
    form.hidden = !open;
    $("[data-inline-view]", wrap).hidden = open;
    if (open) $("input:not([type=hidden])", form).select();
    else ($("[data-inline-open]", wrap) || $("a", wrap))?.focus();
  }
  on("click", "[data-inline-open]", (event, node) => edit(node.closest("[data-inline-edit]"), true));
  on("click", "[data-inline-cancel]", (event, node) => edit(node.closest("[data-inline-edit]"), false));
  on("dblclick", "[data-inline-view]", (event, node) => { event.preventDefault(); edit(node.closest("[data-inline-edit]"), true); });
  on("keydown", "[data-inline-form]", (event, form) => {
    if (event.key === "Escape" && !event.isComposing) { event.stopPropagation(); edit(form.closest("[data-inline-edit]"), false); }
  });

  /* ---- Lists that are filtered while one types ----------------------------------------------------------------------- */
  const options = (list) => $$("[data-search-option]:not([hidden])", list);
  function activate(list, option) {
    $$("[data-search-option]", list).forEach((other) => {
      other.classList.toggle("active", other === option);
      other.setAttribute("aria-selected", String(other === option));
    });
    const input = $("[data-search-input]", list);
    if (option?.id) input.setAttribute("aria-activedescendant", option.id); else input.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({block: "nearest"});
  }
  on("input", "[data-search-input]", (event, input) => {
    const list = input.closest("[data-searchable-list]");
    const words = input.value.toLowerCase().split(/\s+/);
    $$("[data-search-option]", list).forEach((option) => {
      const text = (option.dataset.searchText || option.textContent).toLowerCase();
      option.hidden = !words.every((word) => text.includes(word));
    });
    const found = options(list);
    activate(list, found[0]);
    const none = $("[data-search-none]", list);
    if (none) none.hidden = found.length > 0;
  });
  on("keydown", "[data-search-input]", (event, input) => {
    if (event.isComposing) return;
    const list = input.closest("[data-searchable-list]");
    const found = options(list);
    const at = found.findIndex((option) => option.matches(".active"));
    const to = {ArrowDown: at + 1, ArrowUp: at - 1}[event.key];
    if (to !== undefined) activate(list, found[(to + found.length) % found.length]);
    else if (event.key === "Enter") found[Math.max(0, at)]?.click();
    else return;
    event.preventDefault();
  });
  document.addEventListener("shown.bs.dropdown", (event) => $("[data-autofocus]", event.target.parentNode)?.focus());

  if (body.hasAttribute("data-signed-out")) sessionStorage.clear();  // the next person on this tab begins with nothing selected

  /* ---- Keyboard --------------------------------------------------------------------------------------------------------- */
  const keysOff = () => localStorage.getItem("keys") === "off";
  const rows = () => $$("[data-row]").filter((row) => row.offsetParent);
  let cursor = null;
  on("focusin", "[data-row]", (event, row) => { cursor = row.id; });
  const currentRow = () => document.activeElement?.closest("[data-row]") || document.getElementById(cursor);
  function focusRow(row) {
    if (!row) return;
    ($("[data-row-link]", row) || row).focus();
    row.scrollIntoView({block: "nearest"});
  }
  const keys = {
    "/": () => $("[data-search]")?.focus(),
    "?": () => $("#keys")?.showModal(),
    j: () => { const all = rows(); focusRow(all[Math.min(all.length - 1, all.indexOf(currentRow()) + 1)]); },
    k: () => { const all = rows(); focusRow(all[Math.max(0, all.indexOf(currentRow()) - 1)]); },
    x: (event) => { const row = currentRow(); if (row) $('input[name="ids"]', row)?.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true, shiftKey: event.shiftKey})); },
    F2: () => edit((currentRow() && $("[data-inline-edit]", currentRow())) || $$("[data-inline-edit]").at(-1), true),
  };
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
    if (event.key === "Escape" && field?.matches("[data-search]")) field.blur();
    if (field || event.isComposing || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open], .dropdown-menu.show")) return;
    if (event.key.length === 1 && keysOff() && event.key !== "?") return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const hot = `[data-hotkey="${CSS.escape(name)}"]:not([hidden], :disabled)`;
    const target = keys[name] ? null : (currentRow() && $(hot, currentRow())) || $$(hot).at(-1);
    if (!keys[name] && !target) return;
    event.preventDefault();
    if (target) target.click(); else keys[name](event);
  });
  const keysSwitch = $("[data-keys-switch]");
  if (keysSwitch) {
    keysSwitch.checked = !keysOff();
    keysSwitch.addEventListener("change", () => localStorage.setItem("keys", keysSwitch.checked ? "on" : "off"));
  }

  /* ---- Times in the reader's own zone, and progress that is spoken at most every ten seconds --------------------------------- */
  const lang = document.documentElement.lang;
  const [short, long] = ["short", "medium"].map((style) => new Intl.DateTimeFormat(lang, {dateStyle: style, timeStyle: style}));
  const relative = new Intl.RelativeTimeFormat(lang, {numeric: "auto"});
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  function times() {
    for (const node of $$("time[data-relative-time], time[data-local-time]")) {
      const date = new Date(node.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      const seconds = (date - Date.now()) / 1000;
      const [unit, length] = units.find(([, n]) => Math.abs(seconds) >= n) || units[3];
      node.textContent = "relativeTime" in node.dataset ? relative.format(Math.round(seconds / length), unit) : short.format(date);
      node.title = long.format(date);
    }
  }
  let spoken = 0;
  function announce() {
    const node = $("[data-announce]");
    const text = node?.textContent.trim();
    if (!text || text === $("#announcer").textContent || (Date.now() - spoken < 10000 && !node.hasAttribute("data-announce-now"))) return;
    spoken = Date.now();
    $("#announcer").textContent = text;
  }
  // Code and tables that scroll sideways must be reachable with the keyboard.
  const scrollers = () => $$(".prose :is(pre, table)").forEach((node) => { if (node.scrollWidth > node.clientWidth) node.tabIndex = 0; });
  after(() => { times(); announce(); scrollers(); });
  setInterval(times, 30000);

  document.addEventListener("htmx:load", (event) => $("[data-autofocus]", event.target)?.focus());
  if (!window.htmx) $("[data-autofocus]")?.focus();
  times();
  scrollers();
  window.Switchboard = {$, $$, on, after, say};
})();
