/* Holds that are counted down between two answers of the server. Needs app.js. */
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
})();
