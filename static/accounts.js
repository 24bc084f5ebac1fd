/* Acting on many accounts: each selected row sends a request of its own, so that one slow account holds up no other. Needs app.js and selection.js. */
"use strict";
(() => {
  const {$, $$, on} = window.Switchboard;
  const AT_ONCE = 4;
  const selected = () => $$('[data-select-scope="accounts"] input[name="ids"]:checked').map((box) => box.value);
  let queue = [];
  let running = 0;

  function next() {
    while (running < AT_ONCE && queue.length) {
      running += 1;
      queue.shift()().catch(() => {}).finally(() => { running -= 1; next(); });
    }
  }
  function send(pk, url, values) {
    const row = document.getElementById(`account-${pk}`);
    if (!row) return Promise.resolve();
    const health = document.getElementById(`health-${pk}`);
    health?.classList.add("htmx-request");
    return htmx.ajax("POST", url, {source: row, target: row, swap: "morph:outerHTML", values})
      .finally(() => document.getElementById(`health-${pk}`)?.classList.remove("htmx-request"));
  }
  on("click", "[data-many]", (event, button) => {
    const name = button.dataset.many;
    const field = $("[data-many-label]");
    const values = name === "labels" ? {add: field.value} : {};
    if (name === "labels" && !field.value.trim()) return field.focus();
    for (const pk of selected()) {
      const url = document.getElementById(`account-${pk}`).dataset[`url${name[0].toUpperCase()}${name.slice(1)}`];
      if (url) queue.push(() => send(pk, url, values));  // a paused account has nothing to test
    }
    if (name === "labels") field.value = "";
    next();
  });
  on("keydown", "[data-many-label]", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    $('[data-many="labels"]').click();
  });
})();
