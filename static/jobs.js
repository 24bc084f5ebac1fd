/* The pages of jobs: choosing a model from a list, inserting placeholders, times of day. Needs app.js. */
"use strict";
(() => {
  const {$, $$, on, after} = window.Switchboard;

  on("click", "[data-pick]", (event, option) => {
    const picker = option.closest("[data-picker]");
    $('input[type="hidden"]', picker).value = option.dataset.pick;
    $("[data-picker-label]", picker).textContent = option.dataset.pickLabel;
    $$("[data-pick]", picker).forEach((other) => other.classList.toggle("is-chosen", other === option));
    const about = $(`[data-pick-about="${option.id}"]`, picker);
    $("[data-picker-about]", picker).replaceChildren(...(about ? [about.content.cloneNode(true)] : []));
    if (option.dataset.pick) $$(".choice.has-error", picker.closest("form")).forEach((choice) => {  // one choice is what was missing
      choice.classList.remove("has-error");
      $$(".field-error", choice).forEach((error) => error.remove());
    });
    $('[data-bs-toggle="dropdown"]', picker).focus();
  });

  on("click", "[data-insert]", (event, button) => {
    const field = $(button.dataset.insertInto);
    field.setRangeText(button.dataset.insert, field.selectionStart, field.selectionEnd, "end");
    field.focus();
    field.dispatchEvent(new Event("input", {bubbles: true}));
  });

  // The panel of one item lies over the page and has an address of its own: Back closes it, and closing it goes back.
  on("click", "[data-row-opens]", (event, row) => {
    if (!event.target.closest("a, button, input, label") && !String(getSelection())) $("[data-opens-panel]", row).click();
  });
  on("click", "[data-opens-panel]", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) event.stopPropagation();  // into another tab, as any link
  }, true);
  let below = null;  // where the page is without the panel
  after(() => {
    const panel = $("#dialog[open] [data-own-address]");
    if (!panel || location.pathname === panel.dataset.ownAddress) return;
    below ??= {state: history.state, address: location.href};
    history.pushState({panel: true}, "", panel.dataset.ownAddress);
  });
  document.addEventListener("close", (event) => {
    if (event.target.id !== "dialog" || !below) return;
    const {state, address} = below;
    below = null;
    if (state?.htmx) history.replaceState(state, "", address);  // going back would load the page anew
    else history.back();
  }, true);
  window.addEventListener("popstate", () => {
    const alone = $("#main [data-own-address]");
    if (alone && location.pathname !== alone.dataset.ownAddress) location.reload();  // the panel was opened over another page, then loaded alone
    if (!below) return;
    below = null;
    $("#dialog").close();
  });

  // Today the time of day says enough; before that, the day does.
  const lang = document.documentElement.lang;
  const [time, day, long] = [{timeStyle: "short"}, {dateStyle: "short"}, {dateStyle: "medium", timeStyle: "medium"}].map((style) => new Intl.DateTimeFormat(lang, style));
  function clocks() {
    for (const node of $$("time[data-clock]")) {
      const date = new Date(node.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      node.textContent = (date.toDateString() === new Date().toDateString() ? time : day).format(date);
      node.title = long.format(date);
    }
  }
  after(clocks);
  clocks();
})();
