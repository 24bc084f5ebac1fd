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
    $('[data-bs-toggle="dropdown"]', picker).focus();
  });

  on("click", "[data-insert]", (event, button) => {
    const field = $(button.dataset.insertInto);
    field.setRangeText(button.dataset.insert, field.selectionStart, field.selectionEnd, "end");
    field.focus();
    field.dispatchEvent(new Event("input", {bubbles: true}));
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
