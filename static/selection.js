/* The selection of a list: rows ticked over many pages, or all that match the filter but some. Needs app.js.
   It lives in sessionStorage under the name of the scope and remembers the filter that it was made under. */
"use strict";
(() => {
  const {$, $$, on, after, say} = window.Switchboard;
  const number = (n) => n.toLocaleString(document.documentElement.lang);
  const scope = () => $("[data-select-scope]");
  const boxes = () => $$('input[name="ids"]', scope());
  const storeKey = (name) => `selection:${name}`;
  const size = (state) => (state.all ? Math.max(0, state.total - state.picks.length) : state.picks.length);
  let anchor = null;
  // One intent, one key: a double click or a repeated request makes no second job. Another selection is another intent.
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  let key = newKey();
  function selection(node = scope()) {
    const query = node.dataset.selectQuery || "";
    let state = null;
    try { state = JSON.parse(sessionStorage.getItem(storeKey(node.dataset.selectScope))); } catch { /* unreadable: begin anew */ }
    if (!state || !size(state)) state = {query, kept: query, all: false, total: 0, picks: []};  // picks: chosen, or left out of all
    if (state.all && state.query === query) state.total = Number(node.dataset.selectTotal) || state.total;
    return {...state, here: state.query === query, asking: state.kept !== query && state.query !== query};
  }
  function store({query, kept, all, total, picks}) {
    sessionStorage.setItem(storeKey(scope().dataset.selectScope), JSON.stringify({query, kept, all, total, picks}));
    key = newKey();
    recount();
  }
  function recount() {
    const node = scope();
    if (!node) return;
    const state = selection(node);
    const count = size(state);
    const locked = count > 0 && (state.asking || (state.all && !state.here));  // rows of another filter cannot be told apart here
    const picks = new Set(state.picks);
    const all = boxes();
    for (const box of all) {
      box.disabled = locked;
      box.checked = !locked && state.all !== picks.has(box.value);
      box.closest("[data-row]")?.classList.toggle("is-selected", box.checked);
    }
    const ticked = all.filter((box) => box.checked).length;
    const page = $("[data-select-page]", node);
    if (page) Object.assign(page, {disabled: locked, checked: ticked > 0 && ticked === all.length, indeterminate: ticked > 0 && ticked < all.length});
    const bar = $(`[data-select-bar="${node.dataset.selectScope}"]`);
    if (!bar) return;
    const total = Number(node.dataset.selectTotal) || 0;
    const words = locked ? "textSelectedKept" : !state.all ? "textSelected" : state.picks.length ? "textSelectedBut" : "textSelectedAll";
    bar.hidden = !count;
    $("[data-select-count]", bar).textContent = say(words, {n: number(count), m: number(state.picks.length)});
    const more = $("[data-select-all]", bar);
    more.textContent = say("textSelectAll", {n: number(total)});
    more.hidden = locked || state.all || total <= count;  // offered from the first tick: a phone has no box for the page
    $("[data-select-ask]", bar).hidden = !(count && state.asking);
    $("[data-select-actions]", bar).hidden = Boolean(count && state.asking);
  }
  function pick(changedBoxes, chosen) {
    const state = selection();
    const picks = new Set(state.picks);
    for (const box of changedBoxes) if (state.all === chosen) picks.delete(box.value); else picks.add(box.value);
    store({...state, picks: [...picks]});
  }
  on("click", '[data-select-scope] input[name="ids"]', (event, box) => {
    if (box.disabled) return;
    const all = boxes();
    const from = event.shiftKey ? all.findIndex((other) => other.value === anchor) : -1;
    const to = all.indexOf(box);
    pick(from < 0 ? [box] : all.slice(Math.min(from, to), Math.max(from, to) + 1), box.checked);
    anchor = box.value;
  });
  on("click", "[data-select-page]", (event, box) => pick(boxes(), box.checked));
  on("click", "[data-select-all]", () => store({...selection(), all: true, total: Number(scope().dataset.selectTotal), picks: []}));
  on("click", "[data-select-clear]", () => { sessionStorage.removeItem(storeKey(scope().dataset.selectScope)); recount(); });
  on("click", "[data-select-keep]", () => {
    const state = selection();
    const query = scope().dataset.selectQuery || "";
    store({...state, kept: query, query: state.all ? state.query : query});
  });
  on("formdata", "[data-select-bar]", (event) => {
    const state = selection();
    const fields = {query: state.query, count: size(state), [state.all ? "minus" : "ids"]: state.picks.join(",")};
    if (state.all) fields.all_matching = "1";
    fields.key = `${event.formData.get("action") || ""}-${key}`;
    for (const [name, value] of Object.entries(fields)) event.formData.set(name, value);
  });
  $$("[data-select-forget]").forEach((node) => sessionStorage.removeItem(storeKey(node.dataset.selectForget)));
  window.addEventListener("pageshow", (event) => { if (event.persisted) key = newKey(); });
  after(recount);
  recount();
})();
