/* The conversation pages: which row is open, older messages without a jump, links to a message, double click to rename. Needs app.js. */
"use strict";
(() => {
  const {$, $$, on, after} = window.Switchboard;

  /* ---- The row that is open is marked in the list beside the reader; where it is not among the rows, they are read around it ------- */
  let asked = $("#reader")?.dataset.conversation;  // the page came with the rows around this one
  let fresh = true;  // rows that were just loaded: the marked one goes to the middle
  function mark() {
    const id = $("#reader")?.dataset.conversation;
    if (!id || !$("#pane")) return;
    const link = $(`#pane-link-${id}`);
    $$("#pane [aria-current]").forEach((other) => { if (other !== link) other.removeAttribute("aria-current"); });
    if (link) {
      if (!fresh && asked === id && link.hasAttribute("aria-current")) return;
      link.setAttribute("aria-current", "true");
      link.scrollIntoView({block: fresh ? "center" : "nearest"});
      fresh = false;
    } else if (asked !== id) {
      fresh = true;
      htmx.ajax("GET", $("#reader").dataset.paneUrl, {source: "#pane", target: "#pane", swap: "outerHTML"});
    }
    asked = id;
  }

  /* ---- Messages: opened at the newest or at the one of the link; what is added above moves nothing ---------------------------------- */
  const scroller = (node) => {
    const frame = node.closest("#reader, #pane");
    return frame && getComputedStyle(frame).overflowY !== "visible" ? frame : document.scrollingElement;
  };
  const wanted = () => /^#m-([\w-]{1,80})$/.exec(location.hash)?.[1];
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.target.matches("[data-messages]:not([data-loaded])") && wanted()) event.detail.parameters.at = wanted();
  });
  function open() {
    const list = $("[data-messages][data-loaded]:not([data-placed])");
    if (!list) return;
    list.dataset.placed = "";
    const frame = scroller(list);
    const target = $(".is-target", list);
    const last = $$(".message", list).at(-1);
    if (target) target.scrollIntoView({block: "center"});
    else if (last && last.offsetHeight > frame.clientHeight * .8) last.scrollIntoView({block: "start"});
    else if (last) frame.scrollTop = frame.scrollHeight;
  }
  let held = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    if (!target?.matches?.("[data-keep-place]")) return;
    const frame = scroller(target);
    held = {frame, below: frame.scrollHeight - frame.scrollTop};
  });
  function keep() {
    if (held) held.frame.scrollTop = held.frame.scrollHeight - held.below;
    held = null;
  }
  window.addEventListener("hashchange", () => { if (wanted() && !$(location.hash)) location.reload(); });

  /* ---- What follows a change elsewhere does not take away what is being typed ------------------------------------------------------------ */
  document.addEventListener("htmx:beforeSwap", (event) => {
    const {target, requestConfig} = event.detail;
    if (target && requestConfig?.elt === target && $("[data-inline-form]:not([hidden])", target)) event.detail.shouldSwap = false;
  });

  /* ---- A list that fills by itself waits while somebody is busy in it --------------------------------------------------------------- */
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!event.target.matches("[data-quiet]")) return;
    if (!$("#list .dropdown-menu.show, #list [data-inline-form]:not([hidden]), dialog[open]")) return;
    event.preventDefault();
    setTimeout(() => htmx.trigger(document.body, "conversations-arrived"), 3000);
  });

  /* ---- A double click on a title renames it; so a single one with the mouse waits for the second -------------------------------------- */
  let opening;
  on("click", ".row-title [data-row-link]", (event, link) => {
    if (event.detail === 0 || event.pointerType !== "mouse" || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (!link.closest("[data-inline-edit]")) return;
    event.preventDefault();
    clearTimeout(opening);
    if (event.detail === 1) opening = setTimeout(() => location.assign(link.href), 220);
  });

  /* ---- Lists of models: the field is there at once, its list comes a moment later -------------------------------------------------------- */
  document.addEventListener("show.bs.dropdown", (event) => {
    const field = $("[data-search-input]", event.target.parentNode);
    if (field) field.value = "";
  });
  const ready = (list) => $("[role=listbox]:not(.htmx-added)", list);  // before that, htmx has not made its options do anything
  let hasty = null;  // the field in which Enter was pressed before its list was ready
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || !event.target.matches(".model-picker [data-search-input]")) return;
    const list = event.target.closest("[data-searchable-list]");
    if (ready(list) && $(".active", list)) return;  // nothing typed, nothing pointed at: Enter must not switch to whatever stands first
    event.preventDefault();
    event.stopPropagation();
    if (event.target.value && !ready(list)) hasty = event.target;
  }, true);
  function filled() {
    const list = $(".dropdown-menu.show [data-searchable-list]");
    const box = list && $("[role=listbox]", list);
    if (!box || "filled" in box.dataset) return;
    const field = $("[data-search-input]", list);
    if (field.value) field.dispatchEvent(new Event("input", {bubbles: true}));  // typed while the list was on its way
    window.dispatchEvent(new Event("resize"));  // the menu was placed while it was empty
    if (!ready(list)) return;
    box.dataset.filled = "";
    if (hasty === field) $(".active", list)?.click();
    hasty = null;
  }

  after(() => { mark(); open(); keep(); filled(); });
  mark();
})();
