/* Lanes and incidents: holds that are counted down between two answers of the server, times to the second. Needs app.js. */
"use strict";
(() => {
  const {$, $$, after} = window.Switchboard;
  const ends = new WeakMap();  // node -> [what the server said, when it is over]

  function show() {
    for (const node of $$("[data-countdown]")) {
      const said = node.dataset.countdown;
      if (ends.get(node)?.[0] !== said) ends.set(node, [said, performance.now() + 1000 * Number(said)]);
      const left = Math.max(0, Math.ceil((ends.get(node)[1] - performance.now()) / 1000));
      const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      const place = $("[data-countdown-text]", node);
      if (place.textContent !== text) place.textContent = text;
    }
  }
  after(show);
  setInterval(show, 250);
  show();

  // In a timeline seconds matter.
  const exact = new Intl.DateTimeFormat(document.documentElement.lang, {dateStyle: "short", timeStyle: "medium"});
  function times() {
    for (const node of $$("time[data-to-the-second]")) {
      const date = new Date(node.dateTime);
      if (!Number.isNaN(date.getTime())) node.textContent = exact.format(date);
    }
  }
  after(times);
  times();
})();
